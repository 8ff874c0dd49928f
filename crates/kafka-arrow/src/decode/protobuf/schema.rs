//! Where the description of a message comes from: `.proto` text with its imports, a descriptor set, or a
//! registry.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::prost::Message;
use prost_reflect::prost_types::{FileDescriptorProto, FileDescriptorSet};
use prost_reflect::{FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::ProtoFiles;
use super::builtin::BuiltinFiles;
use super::readable::{NO_EDITIONS, for_protox, unreadable};
use crate::error::{Error, Result, nearest_names};

/// A message type, with all types that its fields need.
#[derive(Debug, Clone)]
pub struct ProtobufSchema {
    message: MessageDescriptor,
}

impl ProtobufSchema {
    /// The message with this name in a file, or the file's only message.
    ///
    /// # Errors
    /// When a file does not parse, an import is missing or there is no such message. The error then lists the
    /// messages that exist.
    pub fn from_files(files: &ProtoFiles, message: Option<&str>) -> Result<Self> {
        let file = compile(files)?;
        Self::choose(&[file], &files.name, message)
    }

    /// The message with this name in a FileDescriptorSet, or the set's only message. `protoc
    /// --include_imports --descriptor_set_out` writes such a set.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files). Errors call the set `name`.
    pub fn from_descriptor_set(name: &str, bytes: &[u8], message: Option<&str>) -> Result<Self> {
        let set = FileDescriptorSet::decode(bytes).map_err(|e| {
            invalid(
                name,
                format!(
                    "not a descriptor set ({e}); write one with protoc --include_imports \
                     --descriptor_set_out"
                ),
            )
        })?;
        let roots = compile_set(name, set, HashMap::new())?;
        Self::choose(&roots, name, message)
    }

    /// The message's name, including its package.
    pub fn full_name(&self) -> &str {
        self.message.full_name()
    }

    pub(crate) fn message(&self) -> &MessageDescriptor {
        &self.message
    }

    fn choose(files: &[FileDescriptor], name: &str, message: Option<&str>) -> Result<Self> {
        let top: Vec<MessageDescriptor> = files.iter().flat_map(messages).collect();
        let Some(wanted) = message else {
            return match <[MessageDescriptor; 1]>::try_from(top) {
                Ok([message]) => Ok(Self { message }),
                Err(top) if top.is_empty() => Err(invalid(name, "it has no message")),
                Err(top) => Err(invalid(
                    name,
                    format!(
                        "it has several messages: {}; choose one with 'value.schema.message'",
                        listed(&top)
                    ),
                )),
            };
        };
        let pools = files.iter().map(|file| file.parent_pool());
        let mut found = pools.filter_map(|pool| pool.get_message_by_name(wanted));
        if let Some(message) = found.find(|m| !m.is_map_entry()) {
            return Ok(Self { message });
        }
        let all: Vec<String> = files
            .iter()
            .flat_map(|file| file.parent_pool().all_messages().collect::<Vec<_>>())
            .filter(|m| !m.is_map_entry())
            .map(|m| m.full_name().to_owned())
            .collect();
        let last = format!(".{wanted}");
        let without_package = all.iter().find(|full| full.ends_with(&last)).cloned();
        let nearest = || nearest_names(wanted, all.iter().map(String::as_str));
        let hint = match without_package.or_else(|| nearest().into_iter().next()) {
            Some(nearest) => format!("did you mean '{nearest}'?"),
            None if top.is_empty() => "it has no message".to_owned(),
            None => format!("it has {}", listed(&top)),
        };
        Err(invalid(name, format!("no message '{wanted}'; {hint}")))
    }
}

/// The top-level messages, in the order of the file.
fn messages(file: &FileDescriptor) -> Vec<MessageDescriptor> {
    file.messages().collect()
}

fn listed(messages: &[MessageDescriptor]) -> String {
    /// A longer list would not help.
    const SHOWN: usize = 10;
    let mut names: Vec<_> = messages
        .iter()
        .take(SHOWN)
        .map(|m| m.full_name().to_owned())
        .collect();
    if messages.len() > SHOWN {
        names.push(format!("{} more", messages.len() - SHOWN));
    }
    names.join(", ")
}

/// The names that a `.proto` text imports, so that the caller can read those files.
///
/// # Errors
/// When the text does not parse.
pub fn imports(name: &str, text: &str) -> Result<Vec<String>> {
    let file = File::from_source(name, &for_protox(text)).map_err(|e| not_compiled(name, &e))?;
    Ok(file.file_descriptor_proto().dependency.clone())
}

/// Compiles a schema together with its imports.
///
/// # Errors
/// When a file does not parse, or an import is missing.
pub(super) fn compile(files: &ProtoFiles) -> Result<FileDescriptor> {
    let mut known = HashMap::new();
    for (name, text) in &files.references {
        match Source::of(name, text)? {
            Source::File(file) => {
                known.insert(name.clone(), *file);
            }
            Source::Set(set) => known.extend(by_name(set)),
        }
    }
    match Source::of(&files.name, &files.text)? {
        Source::File(file) => {
            let name = file.name().to_owned();
            known.insert(name.clone(), *file);
            open(&files.name, known, [name])?
                .pop()
                .ok_or_else(|| invalid(&files.name, "it has no file"))
        }
        Source::Set(set) => {
            let roots = compile_set(&files.name, set, known)?;
            let last = roots.into_iter().next_back();
            last.ok_or_else(|| invalid(&files.name, "it has no file"))
        }
    }
}

/// Compiles a set. Returns the files that no other file in the set imports.
fn compile_set(
    name: &str,
    set: FileDescriptorSet,
    mut known: HashMap<String, File>,
) -> Result<Vec<FileDescriptor>> {
    readable(name, &set.file)?;
    let roots: Vec<String> = set
        .file
        .iter()
        .map(|file| file.name().to_owned())
        .filter(|name| !set.file.iter().any(|f| f.dependency.contains(name)))
        .collect();
    known.extend(by_name(set));
    open(name, known, roots)
}

fn by_name(set: FileDescriptorSet) -> impl Iterator<Item = (String, File)> {
    set.file
        .into_iter()
        .map(|file| (file.name().to_owned(), File::from(file)))
}

/// Compiles the roots among the known files.
fn open(
    name: &str,
    known: HashMap<String, File>,
    roots: impl IntoIterator<Item = String>,
) -> Result<Vec<FileDescriptor>> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(KnownFiles(known));
    resolver.add(BuiltinFiles);
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    let mut opened = Vec::new();
    for root in roots {
        compiler
            .open_file(&root)
            .map_err(|e| not_compiled(name, &e))?;
        opened.push(root);
    }
    let pool = compiler.descriptor_pool();
    Ok(pool
        .files()
        .filter(|file| opened.iter().any(|root| root == file.name()))
        .collect())
}

/// What kind of schema a text is.
enum Source {
    File(Box<File>),
    Set(FileDescriptorSet),
}

impl Source {
    fn of(name: &str, text: &str) -> Result<Self> {
        let source = match descriptor(text) {
            Some(source) => source,
            None => File::from_source(name, &for_protox(text))
                .map(|file| Self::File(Box::new(file)))
                .map_err(|e| not_compiled(name, &e))?,
        };
        match &source {
            Self::File(file) => readable(name, [file.file_descriptor_proto()])?,
            Self::Set(set) => readable(name, &set.file)?,
        }
        Ok(source)
    }
}

/// Decodes a descriptor from base64; `None` if the text is something else.
fn descriptor(text: &str) -> Option<Source> {
    let text: String = text.split_ascii_whitespace().collect();
    let bytes = BASE64.decode(text).ok()?;
    // A single file, read as a set, would have its name as its only file, which then has no name itself.
    if let Ok(set) = FileDescriptorSet::decode(bytes.as_slice())
        && !set.file.is_empty()
        && set.file.iter().all(|file| file.name.is_some())
    {
        return Some(Source::Set(set));
    }
    let file = FileDescriptorProto::decode(bytes.as_slice()).ok()?;
    file.name.as_ref()?;
    Some(Source::File(Box::new(File::from(file))))
}

/// Rejects files that must not be compiled.
fn readable<'a>(
    name: &str,
    files: impl IntoIterator<Item = &'a FileDescriptorProto>,
) -> Result<()> {
    match files.into_iter().find_map(unreadable) {
        Some(reason) => Err(invalid(name, reason)),
        None => Ok(()),
    }
}

struct KnownFiles(HashMap<String, File>);

impl FileResolver for KnownFiles {
    /// Names of imports are not paths, so an absolute one is as good as any other.
    fn resolve_path(&self, path: &Path) -> Option<String> {
        path.to_str().map(str::to_owned)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let file = self.0.get(name);
        file.cloned()
            .ok_or_else(|| protox::Error::file_not_found(name))
    }
}

fn not_compiled(name: &str, error: &protox::Error) -> Error {
    // `Debug` includes the line and the column.
    let mut reason = format!("{error:?}");
    if error.is_file_not_found() {
        reason.push_str("; give it as a reference of the schema");
    }
    if reason.contains("edition") {
        reason.push_str("; ");
        reason.push_str(NO_EDITIONS);
    }
    invalid(name, reason)
}

fn invalid(name: &str, reason: impl std::fmt::Display) -> Error {
    let prefix = format!("{name}:");
    let reason = reason.to_string();
    // Parse errors already begin with the file name.
    let reason = reason.strip_prefix(&prefix).unwrap_or(&reason);
    Error::invalid(format!("Protobuf schema '{name}': {}", reason.trim_start()))
}
