//! Paths of names of fields, and where in a value one is on them.

use super::way::{Salt, Way};

/// Kafka Connect's wrapper has the value in this field.
const PAYLOAD: &str = "payload";

/// A path of names of fields, in lower case. Arrays on the way are passed through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// Whether it may begin at any depth.
    anywhere: bool,
    /// Not empty; `None` is any name.
    names: Vec<Option<String>>,
}

impl Path {
    /// Every field of this name.
    pub(crate) fn anywhere(name: &str) -> Self {
        Self {
            anywhere: true,
            names: vec![Some(name.to_lowercase())],
        }
    }

    /// Reads what follows `$`: `.a.b`, `..a`, `.a[*].b`, `['a b'].c`, `.*.a`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (anywhere, mut rest) = match text.strip_prefix("..") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut names = vec![];
        let mut is_first = anywhere;
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix("[*]") {
                rest = behind;
            } else if let Some(quoted) = rest.strip_prefix("['") {
                let (name, behind) = quoted.split_once("']").ok_or("a \"['\" is not closed")?;
                names.push(Some(name.to_lowercase()));
                rest = behind;
            } else if rest.starts_with('[') {
                return Err(
                    "items cannot be told apart: write [*], which hides the path in all".to_owned(),
                );
            } else {
                let name = match is_first {
                    true => rest,
                    false => (rest.strip_prefix('.')).ok_or("a path begins with '.'")?,
                };
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let (name, behind) = name.split_at(end);
                match name {
                    "" => {
                        return Err(
                            "a name is missing; '..' comes only at the beginning".to_owned()
                        );
                    }
                    "*" => names.push(None),
                    name => names.push(Some(name.to_lowercase())),
                }
                rest = behind;
            }
            is_first = false;
        }
        match names.is_empty() {
            true => {
                Err("a path begins with '.' and a name; to hide all, write value or key".to_owned())
            }
            false => Ok(Self { anywhere, names }),
        }
    }

    fn is(&self, place: usize, name: &str) -> bool {
        let wanted = self.names.get(place);
        wanted.is_some_and(|wanted| wanted.as_deref().is_none_or(|wanted| wanted == name))
    }
}

/// A path with its way, and how many of its names are behind.
#[derive(Debug, Clone, Copy)]
struct At<'a> {
    path: &'a Path,
    way: Way,
    behind: usize,
}

/// The paths that may hide something within a value.
#[derive(Debug, Clone)]
pub(crate) struct Places<'a> {
    all: Vec<At<'a>>,
    is_top: bool,
    pub(crate) salt: &'a Salt,
}

/// What paths say of a field.
#[derive(Debug)]
pub(crate) enum Field<'a> {
    /// It is hidden.
    Hidden(Way),
    /// It is shown, but for what these hide in it.
    Shown(Places<'a>),
}

impl<'a> Places<'a> {
    /// Before the first name.
    pub(super) fn new(paths: &[(&'a Path, Way)], salt: &'a Salt) -> Self {
        let at = |(path, way): &(&'a Path, Way)| At {
            path,
            way: *way,
            behind: 0,
        };
        Self {
            all: paths.iter().map(at).collect(),
            is_top: true,
            salt,
        }
    }

    /// Whether nothing is hidden here.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A field with these names. The strictest way counts.
    pub(crate) fn field<'n>(&self, names: impl Iterator<Item = &'n str>) -> Field<'a> {
        let mut hidden: Option<Way> = None;
        let mut inside = vec![];
        let names: Vec<String> = names.map(str::to_lowercase).collect();
        for at in &self.all {
            if names.iter().any(|name| at.path.is(at.behind, name)) {
                match at.behind + 1 == at.path.names.len() {
                    true => hidden = Some(hidden.map_or(at.way, |way| way.min(at.way))),
                    false => inside.push(At {
                        behind: at.behind + 1,
                        ..*at
                    }),
                }
            }
            let wraps = self.is_top && names.iter().any(|name| name == PAYLOAD);
            if at.behind == 0 && (at.path.anywhere || wraps) {
                inside.push(*at);
            }
        }
        match hidden {
            Some(way) => Field::Hidden(way),
            None => Field::Shown(Self {
                all: inside,
                is_top: false,
                salt: self.salt,
            }),
        }
    }

    /// Where nothing is hidden.
    pub(crate) fn nowhere(&self) -> Self {
        Self {
            all: vec![],
            is_top: false,
            salt: self.salt,
        }
    }
}
