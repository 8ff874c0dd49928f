//! `/livez`: the process turns. `/readyz`: each job has committed a batch, found nothing new or read more within its
//! deadline, and the service was not told to end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::job::Board;
use crate::service::{Service, not_ready};

/// How long the supervisor may be silent, on a machine that is busy, until the process counts as stuck.
const TURNS_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
}

/// Whether a path is that of a probe.
pub(super) fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz")
}

pub(super) fn of_board() -> Router<Arc<Board>> {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready_board))
}

async fn live(State(service): State<Arc<Service>>) -> Response {
    match service.turns(TURNS_WITHIN) {
        true => "ok\n".into_response(),
        false => unavailable("the supervisor of the jobs does not turn\n".to_owned()),
    }
}

async fn ready(State(service): State<Arc<Service>>) -> Response {
    readiness(&service.not_ready())
}

async fn ready_board(State(board): State<Arc<Board>>) -> Response {
    readiness(&not_ready(&board))
}

fn readiness(why: &[String]) -> Response {
    match why {
        [] => "ok\n".into_response(),
        why => unavailable(why.iter().map(|line| format!("{line}\n")).collect()),
    }
}

fn unavailable(text: String) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}
