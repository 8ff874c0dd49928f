//! The messages of a client that has logged in, and their answers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use arrow_pg::datatypes::{df, into_pg_type};
use async_trait::async_trait;
use bytes::BytesMut;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan};
use futures::sink::{Sink, SinkExt};
use pgwire::api::portal::{Format, Portal, PortalExecutionState};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_ready_for_query};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::copy::{CopyData, CopyDone, CopyOutResponse};
use pgwire::messages::data::{DataRow, FieldDescription, RowDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Execute, Parse, ParseComplete, PortalSuspended,
    Sync as SyncMessage, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, NoticeResponse, TransactionStatus};
use pgwire::messages::simplequery::Query as QueryMessage;
use pgwire::messages::startup::ParameterStatus;

use super::copy::CopyFormat;
use super::run::{self, Journal, Running};
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

/// Answers one client.
#[derive(Clone)]
pub(super) struct Handler {
    session: Arc<OnceLock<Session>>,
}

/// A statement that was prepared.
pub(super) struct Prepared {
    text: String,
    statement: Statement,
    /// The plan of a query, with its parameters open.
    plan: Option<LogicalPlan>,
    parameters: Parameters,
    fields: Vec<FieldInfo>,
}

/// The types of parameters, as the plan needs them and as clients are told.
#[derive(Default)]
struct Parameters {
    planned: Vec<Option<DataType>>,
    told: Vec<Type>,
}

impl Handler {
    pub(super) fn new() -> Self {
        Self {
            session: Arc::default(),
        }
    }

    /// Lets the client begin.
    pub(super) fn begin(&self, session: Session) {
        // A client logs in once.
        let _ = self.session.set(session);
    }

    /// What there is after the login.
    pub(super) fn opened(&self) -> Option<&Session> {
        self.session.get()
    }

    fn session(&self) -> PgWireResult<&Session> {
        let missing = || sqlstate::fatal(sqlstate::PROTOCOL_VIOLATION, "log in first");
        self.session.get().ok_or_else(missing)
    }

    async fn simple(&self, client: &mut dyn Wire, text: &str) -> PgWireResult<()> {
        let session = self.session()?;
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
                    fetch(session, client, cursor, *rows, true).await?;
                }
                other => answer(session, client, text, other).await?,
            }
        }
        Ok(())
    }
}

fn read(session: &Session, text: &str) -> PgWireResult<Vec<Statement>> {
    let state = session.context.state();
    datafusion_kafka::statement::check_text(&state, text)
        .map_err(|e| sqlstate::error(sqlstate::TOO_COMPLEX, e.to_string()))?;
    statement::read(text)
}

async fn planned(
    session: &Session,
    query: &Query,
) -> PgWireResult<datafusion::dataframe::DataFrame> {
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
        Statement::Declare {
            cursor,
            query,
            hold,
        } => {
            declare(session, client, cursor, query, *hold).await?;
            complete(client, Tag::new("DECLARE CURSOR")).await
        }
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
    query: &Query,
    hold: bool,
) -> PgWireResult<()> {
    if session.has_cursor(name) {
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
    let frame = planned(session, query);
    let running = Running::start(session, &query.text, &Format::UnifiedText, frame).await?;
    session.keep_cursor(name, Cursor { running, until })
}

async fn complete(client: &mut dyn Wire, tag: Tag) -> PgWireResult<()> {
    client
        .feed(PgWireBackendMessage::CommandComplete(tag.into()))
        .await
}

fn no_cursor(name: &str) -> PgWireError {
    let message = format!("cursor {name:?} does not exist");
    sqlstate::error(sqlstate::INVALID_CURSOR, message)
}

fn described(fields: &[FieldInfo]) -> RowDescription {
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
    describe: bool,
) -> PgWireResult<()> {
    let mut cursor = session.take_cursor(name).ok_or_else(|| no_cursor(name))?;
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

fn shown_fields(name: &str) -> Vec<FieldInfo> {
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

#[async_trait]
impl SimpleQueryHandler for Handler {
    async fn on_query<C>(&self, client: &mut C, query: QueryMessage) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session()?;
        client.set_state(PgWireConnectionState::QueryInProgress);
        session
            .cancellable(self.simple(client, &query.query))
            .await?;
        if client.transaction_status() == TransactionStatus::Idle {
            session.close_cursors(Until::Sync);
        }
        ready(client).await
    }

    async fn do_query<C>(&self, _: &mut C, _: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(unused())
    }
}

/// What pgwire calls only in default implementations that are replaced here.
fn unused() -> PgWireError {
    sqlstate::error(sqlstate::INTERNAL_ERROR, "queries run elsewhere")
}

async fn ready<C>(client: &mut C) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    client.set_state(PgWireConnectionState::ReadyForQuery);
    let status = client.transaction_status();
    send_ready_for_query(client, status).await
}

#[async_trait]
impl QueryParser for Handler {
    type Statement = Arc<Prepared>;

    async fn parse_sql<C>(
        &self,
        _: &C,
        sql: &str,
        types: &[Option<Type>],
    ) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let session = self.session()?;
        let prepared = prepare(session, sql, types).await;
        if prepared.is_err() {
            Journal::begin(session, sql).end(&prepared);
        }
        Ok(prepared?.map(Arc::new))
    }

    fn get_parameter_types(&self, prepared: &Self::Statement) -> PgWireResult<Vec<Type>> {
        Ok(prepared.parameters.told.clone())
    }

    fn get_result_schema(
        &self,
        prepared: &Self::Statement,
        format: Option<&Format>,
    ) -> PgWireResult<Vec<FieldInfo>> {
        let fields = prepared.fields.iter().enumerate().map(|(at, field)| {
            let format = format.map_or(FieldFormat::Text, |format| format.format_for(at));
            let (name, of) = (field.name().to_owned(), field.datatype().clone());
            FieldInfo::new(name, None, None, of, format)
        });
        Ok(fields.collect())
    }
}

async fn prepare(
    session: &Session,
    sql: &str,
    types: &[Option<Type>],
) -> PgWireResult<Option<Prepared>> {
    let mut statements = read(session, sql)?;
    let Some(statement) = statements.pop() else {
        return Ok(None);
    };
    if !statements.is_empty() {
        let message = "cannot insert multiple commands into a prepared statement";
        return Err(sqlstate::error(sqlstate::SYNTAX_ERROR, message));
    }
    let mut prepared = Prepared {
        text: sql.to_owned(),
        plan: None,
        parameters: Parameters::default(),
        fields: vec![],
        statement,
    };
    match &prepared.statement {
        Statement::Query(query) => {
            let plan = planned(session, query).await?.into_unoptimized_plan();
            let schema = Arc::new(plan.schema().as_arrow().clone());
            prepared.fields = run::fields(&schema, &Format::UnifiedText, session)?;
            let parameters = Parameters::of(&plan, types);
            prepared.parameters = parameters.map_err(|e| sqlstate::of_query(&e))?;
            prepared.plan = Some(plan);
        }
        Statement::Show(name) => prepared.fields = shown_fields(name),
        Statement::Fetch { cursor, .. } => {
            // Clients are told the columns now.
            let Some(open) = session.take_cursor(cursor) else {
                return Err(no_cursor(cursor));
            };
            prepared.fields = open.running.fields().to_vec();
            session.keep_cursor(cursor, open)?;
        }
        _ => {}
    }
    Ok(Some(prepared))
}

impl Parameters {
    /// The types that a plan finds for its parameters: what they are compared with, or cast to.
    fn of(plan: &LogicalPlan, given: &[Option<Type>]) -> Result<Self, DataFusionError> {
        let mut found: BTreeMap<usize, Option<DataType>> = BTreeMap::new();
        let place = |id: &str| {
            id.trim_start_matches('$')
                .parse::<usize>()
                .ok()?
                .checked_sub(1)
        };
        for (id, of) in plan.get_parameter_types()? {
            if let Some(at) = place(&id) {
                found.insert(at, of);
            }
        }
        plan.apply_with_subqueries(|node| {
            for expr in node.expressions() {
                expr.apply(|expr| {
                    if let Expr::Cast(cast) = expr
                        && let Expr::Placeholder(parameter) = cast.expr.as_ref()
                        && let Some(at) = place(&parameter.id)
                    {
                        let of = found.entry(at).or_default();
                        of.get_or_insert_with(|| cast.field.data_type().clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let count = found.keys().max().map_or(0, |last| last + 1);
        // As many as a Bind message can hold.
        if count > usize::from(u16::MAX) {
            return Err(DataFusionError::Plan(format!(
                "${count}: there are too many parameters"
            )));
        }
        let planned: Vec<Option<DataType>> =
            (0..count).map(|at| found.remove(&at).flatten()).collect();
        let told = planned.iter().enumerate().map(|(at, of)| {
            let given = given.get(at).cloned().flatten();
            let of = of.as_ref().and_then(|of| into_pg_type(of).ok());
            given.or(of).unwrap_or(Type::TEXT)
        });
        Ok(Self {
            told: told.collect(),
            planned,
        })
    }
}

#[async_trait]
impl ExtendedQueryHandler for Handler {
    type Statement = Arc<Prepared>;
    type QueryParser = Self;

    fn query_parser(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }

    async fn on_parse<C>(&self, client: &mut C, message: Parse) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session()?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        session.prepare(name)?;
        let parsed = StoredStatement::parse(client, &message, self.query_parser());
        match session.cancellable(parsed).await? {
            Some(statement) => client.portal_store().put_statement(Arc::new(statement)),
            None => client.portal_store().put_empty_statement(name),
        }
        Wire::feed(
            client,
            PgWireBackendMessage::ParseComplete(ParseComplete::new()),
        )
        .await
    }

    async fn on_bind<C>(&self, client: &mut C, message: Bind) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session()?;
        let statement = message.statement_name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = message.portal_name.as_deref().unwrap_or(DEFAULT_NAME);
        let entry = client.portal_store().get_statement(statement);
        let (parameters, columns) = match &entry {
            None => return Err(PgWireError::StatementNotFound(statement.to_owned())),
            Some(Entry::Empty) => (0, 0),
            Some(Entry::Value(stored)) => {
                let prepared = &stored.statement;
                (prepared.parameters.told.len(), prepared.fields.len())
            }
        };
        check_counts(&message, parameters, columns)?;
        // Whatever had the name ends.
        drop(session.take_cursor(portal));
        match entry {
            Some(Entry::Value(stored)) => {
                let bound = Portal::try_new(&message, stored)?;
                client.portal_store().put_portal(Arc::new(bound));
            }
            _ => client.portal_store().put_empty_portal(portal),
        }
        Wire::feed(
            client,
            PgWireBackendMessage::BindComplete(BindComplete::new()),
        )
        .await
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session()?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                let empty = PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new());
                return Wire::feed(client, empty).await;
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let most = usize::try_from(message.max_rows).ok().filter(|n| *n > 0);
        client.set_state(PgWireConnectionState::QueryInProgress);
        session
            .cancellable(execute(session, client, &portal, name, most))
            .await?;
        client.set_state(PgWireConnectionState::ReadyForQuery);
        Ok(())
    }

    async fn on_sync<C>(&self, client: &mut C, _: SyncMessage) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if client.transaction_status() == TransactionStatus::Idle {
            self.session()?.close_cursors(Until::Sync);
            client.portal_store().clear_portals();
        }
        ready(client).await
    }

    async fn on_close<C>(&self, client: &mut C, message: Close) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = self.session()?;
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        if message.target_type == TARGET_TYPE_BYTE_STATEMENT {
            session.unprepare(Some(name));
            client.portal_store().rm_statement(name);
        } else {
            drop(session.take_cursor(name));
            client.portal_store().rm_portal(name);
        }
        Wire::feed(
            client,
            PgWireBackendMessage::CloseComplete(CloseComplete::new()),
        )
        .await
    }

    async fn do_query<C>(
        &self,
        _: &mut C,
        _: &Portal<Self::Statement>,
        _: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Err(unused())
    }
}

/// Checks what pgwire takes for granted: a format code for all, one for each, or none.
fn check_counts(message: &Bind, parameters: usize, columns: usize) -> PgWireResult<()> {
    let fits = |codes: &[i16], of: usize| matches!(codes.len(), 0 | 1) || codes.len() == of;
    let given = message.parameters.len();
    let wrong = if given != parameters {
        format!(
            "bind message supplies {given} parameters, but the prepared statement requires {parameters}"
        )
    } else if !fits(&message.parameter_format_codes, parameters) {
        format!(
            "bind message has {} parameter formats but {parameters} parameters",
            message.parameter_format_codes.len()
        )
    } else if !fits(&message.result_column_format_codes, columns) {
        format!(
            "bind message has {} result formats but query has {columns} columns",
            message.result_column_format_codes.len()
        )
    } else {
        return Ok(());
    };
    Err(sqlstate::error(sqlstate::PROTOCOL_VIOLATION, wrong))
}

/// Runs a portal, or reads it on.
async fn execute(
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
    let query = match &prepared.statement {
        Statement::Query(query) => query,
        Statement::Show(name) => return send_shown(client, shown(session, name)?.1).await,
        Statement::Fetch { cursor, rows } => {
            return fetch(session, client, cursor, *rows, false).await;
        }
        other => return answer(session, client, &prepared.text, other).await,
    };
    let mut cursor = match session.take_cursor(name) {
        Some(cursor) => cursor,
        None => {
            let frame = bound(session, portal, query);
            let format = &portal.result_column_format;
            let until = match client.transaction_status() {
                TransactionStatus::Idle => Until::Sync,
                _ => Until::TransactionEnd,
            };
            Cursor {
                running: Running::start(session, &prepared.text, format, frame).await?,
                until,
            }
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

/// The query of a portal with its parameters.
async fn bound(
    session: &Session,
    portal: &Portal<Arc<Prepared>>,
    query: &Query,
) -> PgWireResult<datafusion::dataframe::DataFrame> {
    let prepared = &portal.statement.statement;
    let plan = match &prepared.plan {
        Some(plan) if !query.explains => plan.clone(),
        _ => return planned(session, query).await,
    };
    let frame = run::again(&session.context, plan);
    if portal.parameters.is_empty() {
        return Ok(frame);
    }
    let planned: Vec<_> = prepared
        .parameters
        .planned
        .iter()
        .map(Option::as_ref)
        .collect();
    let told: Vec<_> = prepared.parameters.told.iter().map(Some).collect();
    let values = df::deserialize_parameters_with_server_types(portal, &planned, &told)?;
    let frame = frame.with_param_values(values);
    frame.map_err(|e| sqlstate::of_query(&e))
}
