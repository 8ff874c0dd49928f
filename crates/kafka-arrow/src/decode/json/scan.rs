//! Scans a payload from left to right. This module handles structure and the common cases; jiter does the
//! rest.
//!
//! jiter only sees single strings and numbers, so the cursor belongs to this module and an expected key
//! costs one comparison. What is rejected, and with which message, matches jiter.

use std::borrow::Cow;

use jiter::{Jiter, JiterResult, JsonErrorType, Peek};

use crate::decode::value::Fault;

type Result<T> = std::result::Result<T, Fault>;

#[derive(Debug)]
pub(super) struct Scan<'j> {
    json: &'j [u8],
    at: usize,
}

/// A short number without an exponent: `digits` divided by ten to the power of `places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short {
    pub(super) digits: i64,
    pub(super) places: usize,
}

impl<'j> Scan<'j> {
    pub(super) fn new(json: &'j [u8]) -> Self {
        Self { json, at: 0 }
    }

    /// The position of the next byte.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns to the beginning of a value.
    pub(super) fn back_to(&mut self, start: usize) {
        self.at = start;
    }

    /// The bytes that were read since `start`.
    pub(super) fn since(&self, start: usize) -> &'j [u8] {
        self.json.get(start..self.at).unwrap_or_default()
    }

    /// How the next value begins.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Peek> {
        match self.byte() {
            Some(byte) => Ok(Peek::new(byte)),
            None => self.fault(JsonErrorType::EofWhileParsingValue),
        }
    }

    /// Enters the object that begins here. Returns whether it has a key.
    #[inline]
    pub(super) fn object(&mut self) -> Result<bool> {
        let next = self.first(b'}', JsonErrorType::EofWhileParsingObject)?;
        self.is_key(next)
    }

    /// Moves past a value in an object. Returns whether another key follows.
    #[inline]
    pub(super) fn next_key(&mut self) -> Result<bool> {
        let next = self.step(
            b'}',
            JsonErrorType::EofWhileParsingObject,
            JsonErrorType::ExpectedObjectCommaOrEnd,
        )?;
        self.is_key(next)
    }

    /// Passes over the key that begins here, and its colon, if the key is `quoted` (a name in quotes).
    /// Otherwise, or if no colon follows, the position does not change.
    #[inline]
    pub(super) fn key_is(&mut self, quoted: &[u8]) -> bool {
        let start = self.at;
        if quoted.is_empty() || !self.rest().starts_with(quoted) {
            return false;
        }
        self.at += quoted.len();
        let is = self.byte() == Some(b':');
        self.at = if is { self.at + 1 } else { start };
        is
    }

    /// Reads the key that begins here and its colon.
    pub(super) fn key(&mut self) -> Result<Cow<'j, str>> {
        let key = self.str()?;
        match self.byte() {
            Some(b':') => self.at += 1,
            Some(_) => return self.fault(JsonErrorType::ExpectedColon),
            None => return self.fault(JsonErrorType::EofWhileParsingObject),
        }
        Ok(key)
    }

    /// Enters the array that begins here. Returns how its first item begins.
    #[inline]
    pub(super) fn array(&mut self) -> Result<Option<Peek>> {
        let next = self.first(b']', JsonErrorType::EofWhileParsingList)?;
        Ok(next.map(Peek::new))
    }

    /// Moves past an item. Returns how the next one begins.
    #[inline]
    pub(super) fn next_item(&mut self) -> Result<Option<Peek>> {
        let next = self.step(
            b']',
            JsonErrorType::EofWhileParsingList,
            JsonErrorType::ExpectedListCommaOrEnd,
        )?;
        Ok(next.map(Peek::new))
    }

    /// Reads the string that begins here, as UTF-8.
    #[inline]
    pub(super) fn text(&mut self) -> Result<Cow<'j, [u8]>> {
        if let Some(plain) = plain(self.json.get(self.at + 1..).unwrap_or_default()) {
            self.at += plain.len() + 2;
            return Ok(Cow::Borrowed(plain));
        }
        let text = self.jiter(|jiter| jiter.known_str().map(str::to_owned))?;
        Ok(Cow::Owned(text.into_bytes()))
    }

    pub(super) fn str(&mut self) -> Result<Cow<'j, str>> {
        Ok(match self.text()? {
            Cow::Borrowed(text) => String::from_utf8_lossy(text),
            Cow::Owned(text) => String::from_utf8(text).unwrap_or_default().into(),
        })
    }

    /// Reads the number that begins here, and its value if it is short.
    #[inline]
    pub(super) fn number(&mut self, peek: Peek) -> Result<(&'j [u8], Option<Short>)> {
        let start = self.at;
        let short = match short(self.rest()) {
            Some((short, length)) => {
                self.at += length;
                Some(short)
            }
            None => {
                self.jiter(|jiter| jiter.known_number_bytes(peek).map(drop))?;
                None
            }
        };
        Ok((self.since(start), short))
    }

    pub(super) fn null(&mut self) -> Result<()> {
        self.jiter(Jiter::known_null)
    }

    pub(super) fn bool(&mut self, peek: Peek) -> Result<bool> {
        self.jiter(|jiter| jiter.known_bool(peek))
    }

    /// Checks that only spaces are left.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.byte() {
            None => Ok(()),
            Some(_) => self.fault(JsonErrorType::TrailingCharacters),
        }
    }

    fn rest(&self) -> &'j [u8] {
        self.json.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is not a space.
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        loop {
            match self.json.get(self.at) {
                Some(b' ' | b'\r' | b'\t' | b'\n') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    /// The first byte within brackets, unless they close at once.
    #[inline]
    fn first(&mut self, close: u8, eof: JsonErrorType) -> Result<Option<u8>> {
        self.at += 1;
        match self.byte() {
            Some(next) if next == close => {
                self.at += 1;
                Ok(None)
            }
            None => self.fault(eof),
            next => Ok(next),
        }
    }

    /// The first byte after a comma, unless the brackets close.
    #[inline]
    fn step(
        &mut self,
        close: u8,
        eof: JsonErrorType,
        neither: JsonErrorType,
    ) -> Result<Option<u8>> {
        match self.byte() {
            Some(b',') => {
                self.at += 1;
                match self.byte() {
                    Some(next) if next == close => self.fault(JsonErrorType::TrailingComma),
                    None => self.fault(JsonErrorType::EofWhileParsingValue),
                    next => Ok(next),
                }
            }
            Some(next) if next == close => {
                self.at += 1;
                Ok(None)
            }
            Some(_) => self.fault(neither),
            None => self.fault(eof),
        }
    }

    #[inline]
    fn is_key(&self, next: Option<u8>) -> Result<bool> {
        match next {
            Some(b'"') => Ok(true),
            None => Ok(false),
            Some(_) => self.fault(JsonErrorType::KeyMustBeAString),
        }
    }

    /// Reads the value that begins here with jiter.
    fn jiter<T>(&mut self, read: impl FnOnce(&mut Jiter<'j>) -> JiterResult<T>) -> Result<T> {
        let mut jiter = Jiter::new(self.rest());
        let value = read(&mut jiter).map_err(|e| syntax(e.error_type, self.at + e.index))?;
        self.at += jiter.current_index();
        Ok(value)
    }

    #[cold]
    fn fault<T>(&self, error: JsonErrorType) -> Result<T> {
        Err(syntax(error, self.at))
    }
}

fn syntax(error: impl std::fmt::Display, at: usize) -> Fault {
    Fault::new("syntax", format!("no JSON: {error} at byte {at}"))
}

/// The text up to the closing quote, if it is UTF-8 without escapes.
#[inline]
fn plain(json: &[u8]) -> Option<&[u8]> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Sets the highest bit of each byte below `least` (at most 128), and maybe of bytes after the first of
    // them.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & HIGH;
    let is = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);

    let (mut at, mut seen) = (0, 0);
    let mut rest = json;
    while let Some((eight, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let ends = is(word, b'"') | is(word, b'\\') | below(word, 0x20);
        if ends != 0 {
            break;
        }
        seen |= word;
        at += 8;
        rest = behind;
    }
    for byte in rest {
        match byte {
            b'"' => {
                let text = json.get(..at)?;
                let ascii = seen & HIGH == 0;
                return (ascii || std::str::from_utf8(text).is_ok()).then_some(text);
            }
            b'\\' | ..0x20 => return None,
            other => seen |= u64::from(*other),
        }
        at += 1;
    }
    None
}

/// A short number, and its length in bytes.
#[inline]
fn short(json: &[u8]) -> Option<(Short, usize)> {
    /// This many digits fit, with or without a point.
    const MOST: usize = 18;
    let negative = json.first() == Some(&b'-');
    let start = usize::from(negative);
    let (mut digits, mut at, mut point) = (0i64, start, None);
    loop {
        match json.get(at) {
            Some(b'0'..=b'9') if at - start >= MOST => return None,
            Some(digit @ b'0'..=b'9') => digits = digits * 10 + i64::from(digit - b'0'),
            Some(b'.') if point.is_none() && at > start => point = Some(at),
            Some(b'.' | b'e' | b'E') => return None,
            _ => break,
        }
        at += 1;
    }
    let whole = point.unwrap_or(at) - start;
    let places = point.map_or(0, |point| at - point - 1);
    let leading_zero = json.get(start) == Some(&b'0') && whole > 1;
    // Numbers without digits, and minus zero, are left to jiter.
    if whole == 0 || leading_zero || (point.is_some() && places == 0) || (negative && digits == 0) {
        return None;
    }
    let digits = if negative { -digits } else { digits };
    Some((Short { digits, places }, at))
}
