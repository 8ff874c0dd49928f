//! Paths to local files, as options and URLs name them.

use std::path::PathBuf;

use url::Url;

use crate::error::{Error, Result};

/// The path that a URL or a plain path names, if it is local.
pub fn local_path(url: &str) -> Result<Option<PathBuf>> {
    let path = match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "file" => parsed
            .to_file_path()
            .map_err(|()| Error::invalid(format!("'{url}': a file URL is written file:///dir")))?,
        // A single letter is a Windows drive.
        Ok(parsed) if parsed.scheme().len() > 1 && url.contains("://") => return Ok(None),
        _ if url.is_empty() => return Err(Error::invalid("a folder or a URL is needed, found ''")),
        _ => PathBuf::from(url),
    };
    let path = std::path::absolute(&path);
    let path = path.map_err(|e| Error::invalid(format!("'{url}': {e}")))?;
    Ok(Some(one_name(&path)))
}

/// One path for a folder, however it is written, so that two sinks with the same folder are recognised. Parts
/// that do not exist yet have no links to resolve.
pub(crate) fn one_name(path: &std::path::Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(known), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return rest.components().fold(known, |path, part| path.join(part));
        }
    }
    path.to_owned()
}
