//! What statements are answered with.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use datafusion::dataframe::DataFrame;
use futures::sink::{Sink, SinkExt};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, Tag};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use pgwire::messages::extendedquery::PortalSuspended;
use pgwire::messages::response::{EmptyQueryResponse, NoticeResponse, TransactionStatus};
use pgwire::messages::startup::ParameterStatus;

use super::copy::CopyFormat;
use super::journal::Journal;
use super::prepared::{Prepared, bound};
use super::run::{self, Running};
use super::session::{Cursor, Session, Until};
use super::sqlstate;
use super::statement::{self, Query, Statement};

/// Where answers go, whatever the kind of the connection.
#[async_trait]
pub(super) trait Wire: ClientInfo + Send + Sync {
    /// Sends a message when there are enough of them, and waits for a client that reads slowly.
    async fn feed(&mut self, message: PgWireBackendMessage) -> PgWireResult<()>;

    /// Drops a prepared statement.
    fn drop_statement(&self, name: &str);
}

#[async_trait]
impl<C> Wire for C
where
    C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::PortalStore: PortalStore,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    async fn feed(&mut self, message: PgWireBackendMessage) -> PgWireResult<()> {
        Ok(SinkExt::feed(self, message).await?)
    }

    fn drop_statement(&self, name: &str) {
        self.portal_store().rm_statement(name);
    }
}

/// Answers the statements of a text.
pub(super) async fn simple(
    session: &Session,
    client: &mut dyn Wire,
    text: &str,
) -> PgWireResult<()> {
    let statements = match read(session, text) {
        Ok(statements) => statements,
        Err(error) => {
            let failed = Err(error);
            Journal::begin(session, text).end(&failed);
            return failed.map(|_: Vec<Statement>| ());
        }
    };
    if statements.is_empty() {
        return client
            .feed(PgWireBackendMessage::EmptyQueryResponse(
                EmptyQueryResponse::new(),
            ))
            .await;
    }
    for statement in statements {
        check_transaction(client, &statement)?;
        match &statement {
            Statement::Query(query) => {
                let frame = planned(session, query);
                let format = &Format::UnifiedText;
                let mut running = Running::start(session, &query.text, format, frame).await?;
                let fields = described(running.fields());
                client
                    .feed(PgWireBackendMessage::RowDescription(fields))
                    .await?;
                let (rows, _) = send_rows(client, &mut running, None).await?;
                let tag = Tag::new("SELECT").with_rows(rows);
                finish(session, client, &mut running, tag).await?;
            }
            Statement::Show(name) => {
                let (fields, rows) = shown(session, name)?;
                let fields = described(&fields);
                client
                    .feed(PgWireBackendMessage::RowDescription(fields))
                    .await?;
                send_shown(client, rows).await?;
            }
            Statement::Fetch { cursor, rows } => {
                let format = &Format::UnifiedText;
                fetch(session, client, cursor, *rows, format, true).await?;
            }
            Statement::Declare {
                cursor,
                query,
                hold,
            } => {
                declare(
                    session,
                    client,
                    cursor,
                    *hold,
                    &query.text,
                    planned(session, query),
                )
                .await?
            }
            other => answer(session, client, text, other).await?,
        }
    }
    Ok(())
}

pub(super) fn read(session: &Session, text: &str) -> PgWireResult<Vec<Statement>> {
    let state = session.context.state();
    datafusion_kafka::statement::check_text(&state, text)
        .map_err(|e| sqlstate::error(sqlstate::TOO_COMPLEX, e.to_string()))?;
    statement::read(text)
}

pub(super) async fn planned(session: &Session, query: &Query) -> PgWireResult<DataFrame> {
    let planned = run::plan(&session.context, query).await;
    planned.map_err(|e| sqlstate::of_query(&e))
}

/// Refuses statements between an error and the end of its transaction.
fn check_transaction(client: &dyn Wire, statement: &Statement) -> PgWireResult<()> {
    let ends = matches!(statement, Statement::Commit | Statement::Rollback);
    if client.transaction_status() == TransactionStatus::Error && !ends {
        let message =
            "current transaction is aborted, commands ignored until end of transaction block";
        return Err(sqlstate::error(sqlstate::FAILED_TRANSACTION, message));
    }
    Ok(())
}

/// Answers a statement that is no query.
async fn answer(
    session: &Session,
    client: &mut dyn Wire,
    text: &str,
    statement: &Statement,
) -> PgWireResult<()> {
    match statement {
        Statement::Copy(query, format) => copy_out(session, client, query, format).await,
        other => {
            let tag = take_effect(session, client, other).await;
            Journal::begin(session, text).end(&tag);
            complete(client, Tag::new(tag?)).await
        }
    }
}

/// What a statement without rows does. Returns its tag.
async fn take_effect(
    session: &Session,
    client: &mut dyn Wire,
    statement: &Statement,
) -> PgWireResult<&'static str> {
    Ok(match statement {
        Statement::Set(settings) => {
            for (name, value) in settings {
                let told = session.settings.set(name, value.as_deref())?;
                if name.eq_ignore_ascii_case("timezone") {
                    session.apply_time_zone()?;
                }
                if let Some((name, value)) = told {
                    let status = ParameterStatus::new(name, value);
                    client
                        .feed(PgWireBackendMessage::ParameterStatus(status))
                        .await?;
                }
            }
            "SET"
        }
        Statement::ResetAll => {
            session.settings.reset();
            session.apply_time_zone()?;
            "RESET"
        }
        Statement::Begin => {
            let status = client.transaction_status().to_in_transaction_state();
            client.set_transaction_status(status);
            "BEGIN"
        }
        Statement::Commit | Statement::Rollback => {
            let failed = client.transaction_status() == TransactionStatus::Error;
            client.set_transaction_status(TransactionStatus::Idle);
            session.close_cursors(Until::TransactionEnd);
            match statement {
                Statement::Commit if !failed => "COMMIT",
                _ => "ROLLBACK",
            }
        }
        Statement::Close(None) => {
            session.close_cursors(Until::Closed);
            "CLOSE CURSOR ALL"
        }
        Statement::Close(Some(cursor)) => {
            session
                .take_cursor(cursor)
                .ok_or_else(|| no_cursor(cursor))?;
            "CLOSE CURSOR"
        }
        Statement::Deallocate(name) => {
            for dropped in session.unprepare(name.as_deref()) {
                client.drop_statement(&dropped);
            }
            "DEALLOCATE"
        }
        Statement::DiscardAll => {
            session.close_cursors(Until::Closed);
            session.settings.reset();
            session.apply_time_zone()?;
            for dropped in session.unprepare(None) {
                client.drop_statement(&dropped);
            }
            "DISCARD ALL"
        }
        Statement::Nothing(tag) => tag,
        _ => return Err(sqlstate::error(sqlstate::INTERNAL_ERROR, "this has rows")),
    })
}

async fn declare(
    session: &Session,
    client: &mut dyn Wire,
    name: &str,
    hold: bool,
    text: &str,
    frame: impl Future<Output = PgWireResult<DataFrame>> + Send,
) -> PgWireResult<()> {
    if session.cursor_fields(name).is_some() {
        let message = format!("cursor {name:?} already exists");
        return Err(sqlstate::error(sqlstate::DUPLICATE_CURSOR, message));
    }
    let until = match (hold, client.transaction_status()) {
        (true, _) => Until::Closed,
        (false, TransactionStatus::Idle) => {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(sqlstate::error(sqlstate::NO_TRANSACTION, message));
        }
        (false, _) => Until::TransactionEnd,
    };
    let running = Running::start(session, text, &Format::UnifiedText, frame).await?;
    session.keep_cursor(name, Cursor::new(running, until))?;
    complete(client, Tag::new("DECLARE CURSOR")).await
}

async fn complete(client: &mut dyn Wire, tag: Tag) -> PgWireResult<()> {
    client
        .feed(PgWireBackendMessage::CommandComplete(tag.into()))
        .await
}

pub(super) fn no_cursor(name: &str) -> PgWireError {
    let message = format!("cursor {name:?} does not exist");
    sqlstate::error(sqlstate::INVALID_CURSOR, message)
}

pub(super) fn described(fields: &[FieldInfo]) -> RowDescription {
    RowDescription::new(fields.iter().map(FieldDescription::from).collect())
}

/// Sends rows, at most so many. Returns how many, and whether these were all.
async fn send_rows(
    client: &mut dyn Wire,
    running: &mut Running,
    most: Option<usize>,
) -> PgWireResult<(usize, bool)> {
    let mut sent = 0;
    while most.is_none_or(|most| sent < most) {
        let Some(row) = running.next().await else {
            return Ok((sent, true));
        };
        client.feed(PgWireBackendMessage::DataRow(row?)).await?;
        sent += 1;
    }
    Ok((sent, false))
}

/// Says what was read, and that the statement is complete.
async fn finish(
    session: &Session,
    client: &mut dyn Wire,
    running: &mut Running,
    tag: Tag,
) -> PgWireResult<()> {
    if session.settings.wants_notices() {
        for line in running.summaries() {
            let notice = NoticeResponse::from(sqlstate::info("NOTICE", "00000", line));
            client
                .feed(PgWireBackendMessage::NoticeResponse(notice))
                .await?;
        }
    }
    complete(client, tag).await
}

/// Reads a cursor on.
async fn fetch(
    session: &Session,
    client: &mut dyn Wire,
    name: &str,
    most: Option<usize>,
    format: &Format,
    describe: bool,
) -> PgWireResult<()> {
    let mut cursor = session.take_cursor(name).ok_or_else(|| no_cursor(name))?;
    cursor.running.set_format(format);
    if describe {
        let fields = described(cursor.running.fields());
        client
            .feed(PgWireBackendMessage::RowDescription(fields))
            .await?;
    }
    let (sent, all) = send_rows(client, &mut cursor.running, most).await?;
    let tag = Tag::new("FETCH").with_rows(sent);
    match all {
        true => finish(session, client, &mut cursor.running, tag).await?,
        false => complete(client, tag).await?,
    }
    session.keep_cursor(name, cursor)
}

async fn copy_out(
    session: &Session,
    client: &mut dyn Wire,
    query: &Query,
    format: &CopyFormat,
) -> PgWireResult<()> {
    let frame = planned(session, query);
    let mut running = Running::start(session, &query.text, &Format::UnifiedText, frame).await?;
    let columns = running.fields().len();
    let count = i16::try_from(columns).unwrap_or(i16::MAX);
    let response = CopyOutResponse::new(0, count, vec![0; columns]);
    client
        .feed(PgWireBackendMessage::CopyOutResponse(response))
        .await?;
    // A message for each line, which psycopg relies on.
    let mut line = BytesMut::new();
    if format.header {
        let names = running.fields().iter().map(FieldInfo::name);
        format.names(names, &mut line);
        let data = CopyData::new(line.split().freeze());
        client.feed(PgWireBackendMessage::CopyData(data)).await?;
    }
    while let Some(row) = running.next().await {
        format.row(&row?, &mut line);
        let data = CopyData::new(line.split().freeze());
        client.feed(PgWireBackendMessage::CopyData(data)).await?;
    }
    client
        .feed(PgWireBackendMessage::CopyDone(CopyDone::new()))
        .await?;
    let rows = usize::try_from(running.rows()).unwrap_or(usize::MAX);
    let tag = Tag::new("COPY").with_rows(rows);
    finish(session, client, &mut running, tag).await
}

/// The fields and rows of SHOW.
type Shown = (Vec<FieldInfo>, Vec<DataRow>);

fn shown(session: &Session, name: &str) -> PgWireResult<Shown> {
    let rows = match name.eq_ignore_ascii_case("all") {
        true => {
            let all = session.settings.all().into_iter();
            all.map(|(name, value)| vec![name, value, String::new()])
                .collect()
        }
        false if name.eq_ignore_ascii_case("session_authorization") => {
            vec![vec![session.user.clone()]]
        }
        false => vec![vec![session.settings.show(name)?]],
    };
    let fields = Arc::new(shown_fields(name));
    let encoded = rows.into_iter().map(|row| {
        let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
        row.iter()
            .try_for_each(|value| encoder.encode_field(&Some(value.as_str())))?;
        Ok(encoder.take_row())
    });
    let encoded = encoded.collect::<PgWireResult<_>>()?;
    Ok((fields.to_vec(), encoded))
}

pub(super) fn shown_fields(name: &str) -> Vec<FieldInfo> {
    let names = match name.eq_ignore_ascii_case("all") {
        true => vec!["name", "setting", "description"],
        false => vec![name],
    };
    let field =
        |name: &str| FieldInfo::new(name.to_owned(), None, None, Type::TEXT, FieldFormat::Text);
    names.into_iter().map(field).collect()
}

async fn send_shown(client: &mut dyn Wire, rows: Vec<DataRow>) -> PgWireResult<()> {
    for row in rows {
        client.feed(PgWireBackendMessage::DataRow(row)).await?;
    }
    complete(client, Tag::new("SHOW")).await
}

/// Runs a portal, or reads it on.
pub(super) async fn execute(
    session: &Session,
    client: &mut dyn Wire,
    portal: &Portal<Arc<Prepared>>,
    name: &str,
    most: Option<usize>,
) -> PgWireResult<()> {
    let prepared = &portal.statement.statement;
    check_transaction(client, &prepared.statement)?;
    let state = portal.state();
    if matches!(*state.lock().await, PortalExecutionState::Finished) {
        return complete(client, Tag::new("SELECT").with_rows(0)).await;
    }
    let format = &portal.result_column_format;
    let query = match &prepared.statement {
        Statement::Query(query) => query,
        Statement::Declare {
            cursor,
            query,
            hold,
        } => {
            let frame = bound(session, portal, query);
            return declare(session, client, cursor, *hold, &prepared.text, frame).await;
        }
        Statement::Show(name) => return send_shown(client, shown(session, name)?.1).await,
        Statement::Fetch { cursor, rows } => {
            let fields = session.cursor_fields(cursor);
            if fields.is_some_and(|fields| fields.len() != prepared.fields.len()) {
                let message = "cached plan must not change result type";
                return Err(sqlstate::error(sqlstate::NOT_SUPPORTED, message));
            }
            return fetch(session, client, cursor, *rows, format, false).await;
        }
        other => return answer(session, client, &prepared.text, other).await,
    };
    let mut cursor = match session.take_cursor(name) {
        Some(cursor) => cursor,
        None => {
            let frame = bound(session, portal, query);
            let until = match client.transaction_status() {
                TransactionStatus::Idle => Until::Sync,
                _ => Until::TransactionEnd,
            };
            let running = Running::start(session, &prepared.text, format, frame).await?;
            Cursor::new(running, until)
        }
    };
    let (sent, all) = send_rows(client, &mut cursor.running, most).await?;
    if all {
        *state.lock().await = PortalExecutionState::Finished;
        let tag = Tag::new("SELECT").with_rows(sent);
        return finish(session, client, &mut cursor.running, tag).await;
    }
    session.keep_cursor(name, cursor)?;
    client
        .feed(PgWireBackendMessage::PortalSuspended(PortalSuspended::new()))
        .await
}
