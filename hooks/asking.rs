//! Several servers asked at the same time.

use std::time::Duration;

use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::error::{Error, Kind, Result};
use hookbox::secret::Login;
use hookbox::time::Deadline;

/// A server that is not on this host, and the account there.
pub type Place = (Endpoint, Login);

/// Puts `question` to the servers at all `places` at the same time, each for at most `limit`;
/// `meanwhile` goes on beside them.
pub fn ask_all<T: Send, M>(
    places: &[Place],
    limit: Duration,
    question: fn(&Server) -> Result<T>,
    meanwhile: impl FnOnce() -> M,
) -> (Vec<Result<T>>, M) {
    std::thread::scope(|scope| {
        let ask = |(endpoint, login): &Place| {
            let (endpoint, login) = (endpoint.clone(), login.clone());
            scope.spawn(move || question(&Server::new(endpoint, login, Deadline::after(limit))))
        };
        let asked: Vec<_> = places.iter().map(ask).collect();
        let meanwhile = meanwhile();
        let lost = |_| Err(Error::new(Kind::Bug, "asking it panicked"));
        let answers = asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(lost));
        (answers.collect(), meanwhile)
    })
}
