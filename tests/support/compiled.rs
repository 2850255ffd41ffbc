//! Programs in C that measure: they must be small, since what they start is charged with their size.

use std::fs;
use std::path::Path;
use std::process::Command;

/// The program `bench/NAME.c`, static; by musl where that is installed, since it starts soonest.
pub fn compile(name: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("bench")
        .join(format!("{name}.c"));
    let program = std::env::temp_dir().join(format!("hookbox-bench-{}-{name}", std::process::id()));
    // musl-gcc looks only at musl's own headers, which lack the kernel's.
    let kernel_headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let compiles = |compiler: &str| {
        Command::new(compiler)
            .args(["-O2", "-static"])
            .args(["-idirafter", "/usr/include", "-idirafter", &kernel_headers])
            .arg("-o")
            .args([&program, &source])
            .status()
            .is_ok_and(|status| status.success())
    };
    assert!(compiles("musl-gcc") || compiles("gcc"), "no C compiler");
    let bytes = fs::read(&program).unwrap();
    fs::remove_file(&program).unwrap();
    bytes
}
