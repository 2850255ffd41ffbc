//! A MySQL or MariaDB server, as hookbox sees it.

pub mod session;
