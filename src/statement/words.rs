//! The words of a statement that nest, by kind.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;

/// The most brackets that are open at the same time in a text.
pub(super) fn brackets_in(text: &Token) -> u64 {
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
pub(super) fn is_operator(keyword: Keyword) -> bool {
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

pub(super) fn is_text(token: &Token) -> bool {
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
