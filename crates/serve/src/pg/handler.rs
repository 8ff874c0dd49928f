//! The messages of a client that has logged in.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::sink::Sink;
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_ready_for_query};
use pgwire::api::results::{FieldInfo, Response};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::{Entry, PortalStore};
use pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete,
    Sync as SyncMessage, TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use pgwire::messages::simplequery::Query as QueryMessage;

use super::answer::{self, Wire};
use super::journal::Journal;
use super::prepared::{Prepared, prepare};
use super::run;
use super::session::{Session, Until};
use super::sqlstate;

/// Answers one client.
#[derive(Clone)]
pub(super) struct Handler {
    session: Arc<OnceLock<Session>>,
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
            .cancellable(answer::simple(session, client, &query.query))
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
        let format = format.unwrap_or(&Format::UnifiedText);
        Ok(run::formatted(&prepared.fields, format))
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
        session.prepare(name, message.query.len())?;
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
        let bytes = message.parameters.iter().flatten().map(|value| value.len());
        session.bind(portal, bytes.sum())?;
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

    async fn on_describe<C>(&self, client: &mut C, message: Describe) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        // To clients, a cursor that `DECLARE` has made is a portal.
        if message.target_type == TARGET_TYPE_BYTE_PORTAL
            && client.portal_store().get_portal(name).is_none()
            && let Some(fields) = self.session()?.cursor_fields(name)
        {
            let fields = PgWireBackendMessage::RowDescription(answer::described(&fields));
            return Wire::feed(client, fields).await;
        }
        self._on_describe(client, message).await
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
            .cancellable(answer::execute(session, client, &portal, name, most))
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
            let session = self.session()?;
            session.close_cursors(Until::Sync);
            session.unbind(None);
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
            session.unbind(Some(name));
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
