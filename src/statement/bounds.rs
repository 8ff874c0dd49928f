//! Bounds how deep a statement may be nested, judging by its tokens before it is parsed.
//!
//! Parser and planner recurse into nested parts, so text can exhaust the stack, which ends the process.
//! Brackets are not the only nesting: `a OR b OR c` is a tree as high as it has terms. Brackets after a word
//! can also cost time: the parser may read their content twice, once as a function's arguments and once as
//! something else. Twenty such brackets inside each other are read a million times.

use std::collections::HashMap;

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

use crate::error::{Error, Result};

/// The most brackets that may be open at the same time. The parser has the same limit for most kinds.
pub(super) const BRACKETS: usize = 50;
/// The highest tree of brackets, operators and joins.
pub(super) const HEIGHT: u32 = 1000;
/// The most queries, including those in brackets, in WITH and under UNION.
pub(super) const MOST_QUERIES: u64 = 500;
/// The most tables that queries may name. A query in WITH counts again wherever it is named, because the
/// planner walks all of its tables at each join.
pub(super) const MOST_TABLES: u64 = 500;
/// The most JSON operators in one operand. Each doubles the time of planning.
const MOST_JSON: u64 = 14;
/// The most expressions in CUBE, which makes a query for each subset of them.
const MOST_OF_CUBE: u64 = 12;
/// The longest statement in bytes. Tokenizing ten million bytes takes a second.
const LENGTH: usize = 8 << 20;
/// How many tokens the parser may read, including those that it reads again.
pub(super) const WORK: u64 = 1 << 20;

/// Checks a statement or an expression.
///
/// # Errors
/// When it is nested too deeply. Text that cannot be tokenized is left to the parser.
pub(super) fn check(text: &str, dialect: &dyn Dialect) -> Result<()> {
    refuse_above(LENGTH as u64, text.len() as u64, |length, most| {
        format!(
            "the statement has {length} bytes, {most} are allowed; read long lists from a file as a table"
        )
    })?;
    let Ok(tokens) = Tokenizer::new(dialect, text).tokenize() else {
        return Ok(());
    };
    let mut tokens = tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_)));
    let mut next = tokens.next();
    let mut walk = Walk::new();
    while let Some(token) = next {
        next = tokens.next();
        walk.pass(token, next)?;
    }
    while walk.open.len() > 1 {
        walk.close_one();
    }
    refuse_above(MOST_TABLES, walk.most_tables, |_, most| {
        format!(
            "the statement has more than {most} tables when each query in WITH is expanded where it is \
             named; store results in between as tables"
        )
    })?;
    let height = walk.open.pop().map_or(0, Scope::height);
    refuse_above(HEIGHT.into(), height.into(), |height, most| {
        format!(
            "the statement is nested too deeply: {height} levels of operators, joins and brackets, {most} \
             are allowed; write IN (…) for a chain of OR, and join queries in several steps"
        )
    })
}

fn refuse_above(most: u64, found: u64, message: impl FnOnce(u64, u64) -> String) -> Result<()> {
    match found > most {
        true => Err(Error::invalid(message(found, most))),
        false => Ok(()),
    }
}

/// The content of a pair of brackets, or the whole text.
struct Scope {
    /// The character that ends it; `E` stands for the END of a CASE, `X` for the statement under EXPLAIN.
    close: char,
    /// How often its tokens may be read, as a power of two.
    readings: u32,
    /// Whether it is a table in FROM.
    is_table: bool,
    /// Whether its clause is FROM.
    in_from: bool,
    /// Whether it is within the condition of a CASE.
    in_when: bool,
    /// Operators since the last comma or clause. Each makes the tree one level higher.
    links: u32,
    /// The height of the highest brackets since then.
    below: u32,
    /// The height of the highest tree before.
    highest: u32,
    /// Tables that are joined, and queries that are combined.
    relations: u32,
    /// JSON operators since the last comma, clause or comparison; below, the most before that.
    json: u64,
    most_json: u64,
    commas: u64,
    /// Named tables, including the tables within named queries of WITH.
    tables: u64,
    /// The name before its bracket.
    name: String,
    /// Whether it is a query that WITH defines under that name.
    is_named: bool,
}

impl Scope {
    fn new(close: char, readings: u32, is_table: bool) -> Self {
        Self {
            close,
            readings,
            is_table,
            in_from: false,
            in_when: false,
            links: 0,
            below: 0,
            highest: 0,
            relations: 0,
            json: 0,
            most_json: 0,
            commas: 0,
            tables: 0,
            name: String::new(),
            is_named: false,
        }
    }

    /// Begins another expression.
    fn begin(&mut self) {
        self.highest = self.highest.max(self.links + self.below);
        (self.links, self.below) = (0, 0);
        self.begin_operand();
    }

    fn begin_operand(&mut self) {
        self.most_json = self.most_json.max(self.json);
        self.json = 0;
    }

    fn height(mut self) -> u32 {
        self.begin();
        self.highest + self.relations + 1
    }
}

/// What the previous token was.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// An operator, so the next word is an operand, whatever it is.
    Operator,
    /// An operator in the form of a word, which the parser may also take for a function's name.
    OperatorWord,
    /// An opening bracket, a comma, or a word that begins a clause.
    Start,
    /// A word that a following bracket does not belong to.
    Apart,
    /// Any other word.
    Word,
    Other,
}

struct Walk {
    /// The open brackets, innermost last. The first is the text itself.
    open: Vec<Scope>,
    before: Before,
    keyword: Keyword,
    /// Consecutive INTERVALs without an operand between them.
    intervals: u32,
    work: u64,
    queries: u64,
    /// The last name, or after a closing bracket the name before it.
    name: String,
    /// The queries in WITH, and how many tables each includes.
    with: HashMap<String, u64>,
    most_tables: u64,
    /// Whether the text names a function that parses a type from text.
    reads_types: bool,
}

impl Walk {
    fn new() -> Self {
        Self {
            open: vec![Scope::new('\0', 0, false)],
            before: Before::Start,
            keyword: Keyword::NoKeyword,
            intervals: 0,
            work: 0,
            queries: 0,
            name: String::new(),
            with: HashMap::new(),
            most_tables: 0,
            reads_types: false,
        }
    }

    fn pass(&mut self, token: &Token, next: Option<&Token>) -> Result<()> {
        // `<` begins a nested type.
        let is_type = matches!(
            self.keyword,
            Keyword::STRUCT | Keyword::MAP | Keyword::ARRAY
        ) && matches!(next, Some(Token::Word(_)));
        let Some(scope) = self.open.last_mut() else {
            return Ok(());
        };
        let readings = (scope.readings + self.intervals).min(32);
        self.work += 1 << readings;
        refuse_above(WORK, self.work, |_, _| {
            "the statement is nested too deeply: brackets after names are nested so deeply that \
             the parser would read their content millions of times; compute the inner ones in WITH"
                .to_owned()
        })?;
        let before = self.before;
        let mut keyword = Keyword::NoKeyword;
        self.before = match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                let close = match token {
                    Token::LParen => ')',
                    Token::LBracket => ']',
                    _ => '}',
                };
                if close == ']' {
                    scope.links += 1;
                }
                self.open_one(close)?;
                Before::Start
            }
            Token::RParen => self.close(')'),
            Token::RBracket => self.close(']'),
            Token::RBrace => self.close('}'),
            Token::Lt if is_type => {
                self.open_one('>')?;
                Before::Start
            }
            Token::Gt if scope.close == '>' => self.close('>'),
            Token::ShiftRight if scope.close == '>' => {
                self.close('>');
                self.close('>')
            }
            Token::Comma => {
                scope.begin();
                scope.commas += 1;
                if scope.name == "cube" {
                    refuse_above(MOST_OF_CUBE - 1, scope.commas, |_, _| {
                        format!("CUBE of more than {MOST_OF_CUBE} expressions; write GROUPING SETS")
                    })?;
                }
                scope.relations += u32::from(scope.in_from);
                Before::Start
            }
            Token::SemiColon | Token::EOF => {
                scope.begin();
                Before::Start
            }
            Token::Word(word) => {
                keyword = word.keyword;
                self.name(word);
                self.word(keyword)?
            }
            // All columns, and not a product.
            Token::Mul if !matches!(before, Before::Word | Before::Other) => Before::Other,
            Token::Number(..) | Token::Placeholder(_) | Token::Char(_) => Before::Other,
            token if is_text(token) => {
                // Arrow's parser of types recurses: arrow_cast(x, 'List(List(…))').
                if self.reads_types {
                    refuse_above(BRACKETS as u64, brackets_in(token), |_, most| {
                        format!(
                            "the type in a text is nested too deeply: more than {most} brackets"
                        )
                    })?;
                }
                Before::Other
            }
            Token::Arrow | Token::LongArrow | Token::HashArrow | Token::HashLongArrow => {
                scope.links += 1;
                scope.json += 1;
                refuse_above(MOST_JSON, scope.json, |_, most| {
                    format!(
                        "more than {most} operators of JSON in a row; write json_get(value, 'a', 'b', …)"
                    )
                })?;
                Before::Operator
            }
            Token::Eq | Token::Neq | Token::Lt | Token::Gt | Token::LtEq | Token::GtEq => {
                scope.links += 1;
                scope.begin_operand();
                Before::Operator
            }
            _ => {
                scope.links += 1;
                Before::Operator
            }
        };
        self.keyword = keyword;
        self.intervals = match (keyword, self.before) {
            (Keyword::INTERVAL, _) => self.intervals + 1,
            (_, Before::Operator | Before::OperatorWord) => self.intervals,
            _ => 0,
        };
        Ok(())
    }

    /// Remembers a name, and counts it if it names a table.
    fn name(&mut self, word: &Word) {
        use Keyword::*;
        if matches!(word.keyword, AS | NOT | MATERIALIZED) {
            return;
        }
        self.name = word.value.to_lowercase();
        self.reads_types |= self.name.starts_with("arrow_");
        let Some(scope) = self.open.last_mut() else {
            return;
        };
        if matches!(self.keyword, FROM | JOIN) || scope.in_from && self.before == Before::Start {
            let tables = self.with.get(&self.name).copied().unwrap_or(1);
            scope.tables = scope.tables.saturating_add(tables);
            self.most_tables = self.most_tables.max(scope.tables);
        }
    }

    fn word(&mut self, keyword: Keyword) -> Result<Before> {
        use Keyword::*;
        // The word does not end an expression: any word may be the name of a column.
        let is_operand = matches!(self.before, Before::Operator | Before::OperatorWord);
        let [below @ .., scope] = &mut self.open[..] else {
            return Ok(Before::Word);
        };
        let below = below.last();
        Ok(match keyword {
            CASE => {
                self.open_one('E')?;
                Before::Apart
            }
            // Never closed, because it covers everything that follows.
            EXPLAIN if !is_operand => {
                self.open_one('X')?;
                Before::Start
            }
            END => self.close('E'),
            SELECT | FROM | WHERE | GROUP | HAVING | ORDER | LIMIT | OFFSET | ON | USING | WHEN
            | THEN | ELSE | VALUES | UNION | EXCEPT | INTERSECT | JOIN | WINDOW | QUALIFY | SET
            | RETURNING => {
                // JOIN, ON and USING do not end FROM.
                let goes_on = is_operand || matches!(keyword, JOIN | ON | USING);
                scope.in_from = keyword == FROM || scope.in_from && goes_on;
                scope.relations += u32::from(matches!(keyword, UNION | EXCEPT | INTERSECT | JOIN));
                if !is_operand {
                    scope.begin();
                    if scope.close == 'E' {
                        scope.in_when = keyword == WHEN;
                    }
                    // Each level of nested queries doubles the time of planning.
                    let outer = below.map_or(0, |outer| outer.readings + 1);
                    if keyword == SELECT && scope.close == ')' {
                        scope.readings = scope.readings.max(outer);
                    }
                }
                self.count_queries(keyword == SELECT)?;
                match keyword {
                    _ if is_operand => Before::Word,
                    FROM | JOIN | USING => Before::Word,
                    _ => Before::Apart,
                }
            }
            BY | AS | ALL | DISTINCT if !is_operand => Before::Apart,
            AND | OR | XOR => {
                scope.links += 1;
                scope.begin_operand();
                Before::Operator
            }
            keyword if is_operator(keyword) => {
                scope.links += 1;
                Before::OperatorWord
            }
            _ => Before::Word,
        })
    }

    fn count_queries(&mut self, is_one: bool) -> Result<()> {
        self.queries += u64::from(is_one);
        refuse_above(MOST_QUERIES, self.queries, |_, most| {
            format!(
                "the statement has more than {most} queries within it; split it into views \
                 or several statements"
            )
        })
    }

    fn open_one(&mut self, close: char) -> Result<()> {
        // A query in WITH.
        self.count_queries(close == ')' && self.keyword == Keyword::AS)?;
        let Some(scope) = self.open.last() else {
            return Ok(());
        };
        let joined = matches!(
            self.keyword,
            Keyword::FROM | Keyword::JOIN | Keyword::LATERAL
        );
        let begins = self.before == Before::Start;
        let is_table = close == ')'
            && (joined || begins && (scope.in_from || scope.is_table && scope.highest == 0));
        let behind_name = matches!(self.before, Before::Word | Before::OperatorWord);
        let is_query = self.keyword == Keyword::AS;
        let again =
            matches!(close, ')' | ']') && behind_name || close == 'E' || is_table || is_query;
        // Simplifying a CASE copies its conditions.
        let copied = close == 'E' && scope.in_when;
        // A cast is read four times unless its content is an expression.
        let is_cast = again && matches!(self.name.as_str(), "cast" | "try_cast" | "safe_cast");
        let readings = scope.readings + u32::from(again) + u32::from(copied) + u32::from(is_cast);
        let in_when = scope.in_when;
        let mut scope = Scope::new(close, readings, is_table);
        scope.in_when = in_when;
        scope.is_named =
            close == ')' && matches!(self.keyword, Keyword::AS | Keyword::MATERIALIZED);
        scope.name = self.name.clone();
        self.open.push(scope);
        let open = self.open.len() - 1;
        refuse_above(BRACKETS as u64, open as u64, |_, most| {
            format!(
                "the statement is nested too deeply: more than {most} brackets, types or CASEs are \
                 nested"
            )
        })
    }

    /// Closes the innermost bracket of a kind, with everything still open in it. If there is none, the parser
    /// will report it.
    fn close(&mut self, close: char) -> Before {
        let soft = |c: char| matches!(c, '>' | 'E');
        let inner = self.open.iter().rev();
        let inner = inner.take_while(|s| s.close != close && (soft(s.close) || !soft(close)));
        let at = self.open.len() - inner.count();
        if at > 1 && self.open[at - 1].close == close {
            while self.open.len() >= at {
                self.close_one();
            }
        }
        Before::Other
    }

    fn close_one(&mut self) {
        let Some(mut scope) = self.open.pop() else {
            return;
        };
        self.name = std::mem::take(&mut scope.name);
        scope.begin_operand();
        if let Some(outer) = self.open.last_mut() {
            // A query in WITH counts where it is named.
            if scope.is_named {
                let tables = scope.tables.saturating_add(1);
                self.with.insert(self.name.clone(), tables);
            } else {
                outer.tables = outer.tables.saturating_add(scope.tables);
                self.most_tables = self.most_tables.max(outer.tables);
            }
            // The content of brackets is an operand of what surrounds them.
            outer.json = outer.json.saturating_add(scope.most_json);
            outer.below = outer.below.max(scope.height());
        }
    }
}

/// The most brackets that are open at the same time in a text.
fn brackets_in(text: &Token) -> u64 {
    let (mut open, mut most) = (0u64, 0);
    for c in text.to_string().chars() {
        match c {
            '(' => open += 1,
            ')' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The words other than AND, OR and XOR that join operands, or precede one.
fn is_operator(keyword: Keyword) -> bool {
    use Keyword::*;
    matches!(
        keyword,
        NOT | IS
            | IN
            | LIKE
            | ILIKE
            | RLIKE
            | REGEXP
            | SIMILAR
            | MATCH
            | MEMBER
            | BETWEEN
            | OVERLAPS
            | OPERATOR
            | DIV
            | COLLATE
            | AT
            | NOTNULL
            | INTERVAL
            | PRIOR
            | BINARY
    )
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
    )
}
