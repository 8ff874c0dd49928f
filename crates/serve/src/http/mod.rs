//! The HTTP port: the API, metrics and probes, and what else is merged into its routes.
//!
//! | path | | asks for the token |
//! |---|---|---|
//! | `/livez`, `/readyz` | probes | never |
//! | `/metrics` | Prometheus | beyond this machine |
//! | `GET /api/jobs`, `/api/jobs/NAME`, `/api/events` | what is known of jobs, and what happens | beyond this machine |
//! | `POST /api/jobs/NAME/pause`, `resume`, `stop`, `retry` | changes something | always |
//!
//! [`Guard`] is in front of all routes, also of those that others add.

mod api;
mod guard;
mod port;
mod probes;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

pub use guard::{Guard, Peer};
pub use port::Port;

use crate::job::Board;
use crate::metrics;
use crate::service::Service;

/// The routes of a service.
///
/// Those of other modules are merged here: their handlers take `State<Arc<Service>>`.
pub fn of_service(service: &Arc<Service>, guard: Guard) -> Router {
    let routes = api::routes().merge(probes::routes());
    let routes = routes.with_state(Arc::clone(service));
    let board = Arc::clone(service.board());
    guard.before(routes.merge(observed().with_state(board)))
}

/// The routes for jobs that run without a service: metrics and probes.
pub fn of_board(board: Arc<Board>, guard: Guard) -> Router {
    let probes = probes::of_board();
    guard.before(observed().merge(probes).with_state(board))
}

fn observed() -> Router<Arc<Board>> {
    Router::new().route("/metrics", get(answer))
}

async fn answer(State(board): State<Arc<Board>>) -> Response {
    let text = metrics::text(&board).await;
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

#[cfg(test)]
mod tests;
