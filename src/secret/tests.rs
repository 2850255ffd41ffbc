use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::scratch::Scratch;

fn private(dir: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn peer(config: &str) -> Peer {
    toml::from_str(&format!("host = 'db2'\n{config}")).unwrap()
}

#[test]
fn nothing_configured_is_the_default_user_with_an_empty_password() {
    let login = Login::local(&Mysql::default()).unwrap();
    assert_eq!(login.user, "hookbox");
    assert_eq!(login.password.reveal(), "");
}

#[test]
fn a_password_prints_as_stars_wherever_it_is() {
    let login = Login {
        user: "u".to_owned(),
        password: Password::new("s3cret"),
        otherwise: Some(Password::new("s3cret, too")),
        ..Login::default()
    };
    assert!(!format!("{login:?} {:?}", Some(&login)).contains("s3cret"));
}

#[test]
fn a_password_file_is_its_first_line() {
    let dir = Scratch::new();
    for text in ["pass word ", "pass word \n", "pass word \r\nmore\n"] {
        let mysql = Mysql {
            password_file: Some(private(&dir, "p", text)),
            ..Mysql::default()
        };
        assert_eq!(
            Login::local(&mysql).unwrap().password.reveal(),
            "pass word "
        );
    }
    let mysql = Mysql {
        password_file: Some(private(&dir, "p", "\nx")),
        ..Mysql::default()
    };
    assert_eq!(Login::local(&mysql).unwrap_err().kind(), Kind::Config);
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_the_chmod_to_type() {
    let dir = Scratch::new();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
        let path = private(&dir, "p", "[client]\npassword=s3cret\n");
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for mysql in [
            Mysql {
                password_file: Some(path.clone()),
                ..Mysql::default()
            },
            Mysql {
                defaults_file: Some(path.clone()),
                ..Mysql::default()
            },
        ] {
            let error = Login::local(&mysql).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            assert_eq!(
                error.advice(),
                Some(format!("chmod 600 {}", path.display()).as_str())
            );
        }
    }
}

#[test]
fn an_option_file_without_password_may_be_read_but_not_written_by_others() {
    let dir = Scratch::new();
    let path = private(&dir, "my.cnf", "[client]\nuser=u\n");
    let mysql = Mysql {
        defaults_file: Some(path.clone()),
        ..Mysql::default()
    };
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Login::local(&mysql).unwrap().user, "u");
    fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
    Login::local(&mysql).unwrap_err();
}

#[test]
fn two_passwords_are_one_too_many() {
    let dir = Scratch::new();
    let mysql = Mysql {
        defaults_file: Some(private(&dir, "my.cnf", "[client]\nuser=u\npassword=a\n")),
        password_file: Some(private(&dir, "p", "b\n")),
        ..Mysql::default()
    };
    assert_eq!(Login::local(&mysql).unwrap_err().kind(), Kind::Config);
    let without = private(&dir, "my2.cnf", "[client]\nuser=u\n");
    let login = Login::local(&Mysql {
        defaults_file: Some(without),
        ..mysql
    })
    .unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("u", "b"));
}

#[test]
fn a_variable_that_is_not_set_is_an_error_that_does_not_name_it() {
    let mysql = Mysql {
        password_env: Some("HOOKBOX_S3CRET".to_owned()),
        ..Mysql::default()
    };
    let error = Login::local(&mysql).unwrap_err();
    assert!(!error.chain().contains("S3CRET"));
    let mysql = Mysql {
        password_env: Some("PATH".to_owned()),
        ..Mysql::default()
    };
    let password = Login::local(&mysql).unwrap().password;
    assert_eq!(password.reveal(), std::env::var("PATH").unwrap());
}

#[test]
fn a_peer_takes_from_this_host_what_it_does_not_say() {
    let dir = Scratch::new();
    let local = Login {
        user: "u".to_owned(),
        password: Password::new("p"),
        ..Login::default()
    };
    assert_eq!(Login::on_peer(&peer(""), &local).unwrap(), local);
    let login = Login::on_peer(&peer("user = 'v'"), &local).unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("v", "p"));
    let file = private(&dir, "p", "q\n");
    let config = format!("password_file = '{}'", file.display());
    let login = Login::on_peer(&peer(&config), &local).unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("u", "q"));
}

#[test]
fn a_peer_is_reached_under_the_protection_of_this_host_unless_it_says_otherwise() {
    let ca = |path: &str| Some(PathBuf::from(path));
    let local = Login::local(&Mysql {
        tls: Tls::VerifyIdentity,
        tls_ca: ca("/ca.pem"),
        ..Mysql::default()
    })
    .unwrap();
    let protection = |config: &str| {
        let login = Login::on_peer(&peer(config), &local).unwrap();
        (login.encryption.tls, login.encryption.ca)
    };
    assert_eq!(protection(""), (Tls::VerifyIdentity, ca("/ca.pem")));
    assert_eq!(
        protection("tls = 'verify_ca'\ntls_ca = '/other.pem'"),
        (Tls::VerifyCa, ca("/other.pem"))
    );
    assert_eq!(protection("tls = 'off'").0, Tls::Off);
    assert_eq!(local.at_any_name().encryption.tls, Tls::VerifyCa);
}

#[test]
fn what_the_configuration_says_of_mha_goes_before_what_mha_passes() {
    let dir = Scratch::new();
    let passed = Login {
        user: "u".to_owned(),
        password: Password::new("p"),
        otherwise: Some(Password::new("raw")),
        ..Login::default()
    };
    let of = |mha: &Mha, passed| Login::of_mha(mha, passed).unwrap();
    assert_eq!(of(&Mha::default(), None), None);
    assert_eq!(of(&Mha::default(), Some(&passed)), Some(passed.clone()));
    let mut mha = Mha {
        password_file: Some(private(&dir, "p", "q\n")),
        ..Mha::default()
    };
    assert_eq!(of(&mha, None), None, "nobody says whose password it is");
    let login = of(&mha, Some(&passed)).unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("u", "q"));
    assert_eq!(login.otherwise, None);
    mha.user = Some("v".to_owned());
    let login = of(&mha, None).unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("v", "q"));
}
