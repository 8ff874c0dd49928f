//! A job file: statements that make tables and views, then INSERTs.

use std::path::{Path, PathBuf};

use datafusion::execution::context::SessionContext;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion_kafka::policy::Policy;
use datafusion_kafka::statement::sql;
use datafusion_kafka::table::announce_inserts;

use super::args::stem;
use crate::failure::{Exit, Failure};
use crate::statements::{self, Statement};

/// A job file, cut into statements.
pub(super) struct JobFile {
    path: PathBuf,
    statements: Vec<Statement>,
}

/// What a statement is to a job.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// It makes a table or a view, or sets an option.
    SetUp,
    /// It is run for each batch.
    Insert,
    /// It returns rows, and a job has no place to show them.
    Query,
}

impl JobFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, a string or comment in it is not closed, or it names a variable and `policy`
    /// is restricted.
    pub(super) fn read(path: &Path, policy: &Policy) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Failure::usage(format!("{shown}: no such file")),
            _ => Failure::io(format_args!("cannot read {shown}"), &e),
        })?;
        let restricted = policy.is_restricted();
        let text = with_environment(&text, restricted, |name| std::env::var(name).ok())
            .map_err(|failure| failure.at(shown.to_string()))?;
        let script = statements::split(&text).map_err(|failure| failure.at(shown.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            statements: script.statements,
        })
    }

    /// The job's name, unless the user gives one: the file's without its ending.
    ///
    /// # Errors
    /// When the file's name is no text.
    pub(super) fn name(&self) -> Result<String, Failure> {
        stem(&self.path).ok_or_else(|| Failure::usage("give the job a name with --name"))
    }

    /// Runs what makes tables and views, and returns the INSERT statements.
    ///
    /// # Errors
    /// When a statement is wrong, with its line.
    pub(super) async fn prepare(&self, context: &SessionContext) -> Result<Vec<String>, Failure> {
        let announced = self.statements.iter();
        let announced = announced.filter(|s| role(&s.text) == Role::Insert);
        let announced: Vec<String> = announced.map(Statement::in_place).collect();
        announce_inserts(context, &announced);
        let inserts = self.set_up(context).await?;
        if inserts.is_empty() {
            return Err(self.no_insert());
        }
        Ok(inserts)
    }

    /// Checks that the file is that of a job, without running a statement.
    ///
    /// # Errors
    /// When it has a statement that jobs do not have, or no INSERT.
    #[cfg(feature = "serve")]
    pub(super) fn check(&self) -> Result<(), Failure> {
        let mut inserts = 0;
        for statement in &self.statements {
            match role(&statement.text) {
                Role::Insert => inserts += 1,
                Role::SetUp => {}
                Role::Query => return Err(self.no_rows(statement)),
            }
        }
        match inserts {
            0 => Err(self.no_insert()),
            _ => Ok(()),
        }
    }

    /// Runs what makes tables and views; what else there is is returned.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub(super) async fn set_up(&self, context: &SessionContext) -> Result<Vec<String>, Failure> {
        let mut inserts = vec![];
        for statement in &self.statements {
            match role(&statement.text) {
                Role::Insert => inserts.push(statement.in_place()),
                Role::SetUp => {
                    let run = async {
                        let frame = sql(context, &statement.in_place()).await?;
                        frame.collect().await?;
                        Ok::<_, Failure>(())
                    };
                    run.await
                        .map_err(|failure| failure.at(self.place(statement)))?;
                }
                Role::Query => return Err(self.no_rows(statement)),
            }
        }
        Ok(inserts)
    }

    fn no_rows(&self, statement: &Statement) -> Failure {
        Failure::new(
            Exit::Query,
            "a job has CREATE, SET and INSERT statements; it cannot show the rows of this one: \
             put INSERT INTO a sink before it, or run it with 'query'",
        )
        .at(self.place(statement))
    }

    fn no_insert(&self) -> Failure {
        Failure::new(
            Exit::Query,
            "the job has no INSERT INTO sink SELECT … or CREATE INDEX statement",
        )
        .at(self.path.display().to_string())
    }

    fn place(&self, statement: &Statement) -> String {
        format!("{}:{}", self.path.display(), statement.line)
    }
}

/// Puts the values of environment variables in place of `${NAME}`, quotes doubled: they stand in
/// strings.
fn with_environment(
    text: &str,
    restricted: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, Failure> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        whole.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err(Failure::new(Exit::Query, "'${' without '}'"));
        };
        let line = whole.lines().count().max(1);
        if restricted {
            return Err(Failure::new(
                Exit::Query,
                format!("line {line}: restricted session: no ${{{name}}} is looked up"),
            ));
        }
        let Some(value) = variable(name) else {
            return Err(Failure::new(
                Exit::Query,
                format!("line {line}: the environment variable {name} is not set"),
            ));
        };
        whole.push_str(&value.replace('\'', "''"));
        rest = after;
    }
    whole.push_str(rest);
    Ok(whole)
}

fn role(statement: &str) -> Role {
    match statements::keywords(statement).next() {
        Some(Keyword::INSERT) => Role::Insert,
        Some(
            Keyword::SELECT | Keyword::WITH | Keyword::EXPLAIN | Keyword::SHOW | Keyword::VALUES,
        ) => Role::Query,
        _ if statements::makes_index(statement) => Role::Insert,
        _ => Role::SetUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in() {
        let variable = |name: &str| (name == "URL").then(|| "it's".to_owned());
        let put = |text: &str| with_environment(text, false, variable).map_err(|f| f.text(false));
        assert_eq!(put("a '${URL}' $x").unwrap(), "a 'it''s' $x");
        assert_eq!(
            put("a\n'${NO}'").unwrap_err(),
            "line 2: the environment variable NO is not set"
        );
        assert!(put("${URL").is_err());
        let restricted = with_environment("a '${URL}'", true, variable).unwrap_err();
        assert_eq!(
            restricted.text(false),
            "line 1: restricted session: no ${URL} is looked up"
        );
    }

    #[test]
    fn roles_follow_the_first_word() {
        assert_eq!(role("insert INTO t SELECT 1"), Role::Insert);
        assert_eq!(role("CREATE -- y\n INDEX ON t (key)"), Role::Insert);
        assert_eq!(role("/* x */ CREATE VIEW v AS SELECT 1"), Role::SetUp);
        assert_eq!(role("SET x = 1"), Role::SetUp);
        assert_eq!(role("WITH a AS (SELECT 1) SELECT * FROM a"), Role::Query);
        assert_eq!(role("(SELECT 1)"), Role::SetUp);
    }
}
