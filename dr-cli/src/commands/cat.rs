//! `dr cat`

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use dr_core::{ChunkId, Description, ObjectHash, ObjectKind, StoredObject};
use serde::Serialize;
use serde_json::{Map, Value};

use super::dump;
use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::json;
use crate::selector::Selector;
use crate::session::Session;

/// Writes a file of a snapshot to standard output, or shows a stored object as JSON.
#[derive(Debug, Args)]
#[command(after_help = "dr cat SNAP:path         the content of a file\n\
dr cat config             the repository's config\n\
dr cat keys               the key slots (no keys)\n\
dr cat snapshot SNAP      a snapshot's record\n\
dr cat log SLOT           an entry of the log, by its number from 0\n\
dr cat tree ID            a tree chunk: entries, or a list of chunks\n\
dr cat pack HASH          the frames and chunks of a pack\n\
dr cat index HASH         the packs that an index segment lists\n\n\
Without a name, 'dr cat log', 'pack' and 'index' name all that there are.")]
pub(crate) struct CatArgs {
    /// SNAP:path, or what kind of object
    #[arg(value_name = "WHAT")]
    what: OsString,
    /// Which object of that kind
    #[arg(value_name = "NAME")]
    name: Option<OsString>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Runs the command.
pub(crate) fn run(args: &CatArgs, session: &Session) -> Result<()> {
    let kind = args.what.to_str().unwrap_or_default();
    let name = args.name.as_ref().map(|name| name.to_str().unwrap_or_default());
    let object = match (kind, name) {
        ("config", None) => StoredObject::Config,
        ("keys", None) => StoredObject::Keys,
        ("snapshot", Some(_)) => return cat_snapshot(args, session),
        ("log", Some(slot)) => StoredObject::Log(slot.parse().map_err(|_| no_name("a number", slot))?),
        ("tree", Some(id)) => StoredObject::Tree(ChunkId::from_hex(id).ok_or_else(|| no_name("an id", id))?),
        ("pack", Some(hash)) => StoredObject::Pack(hash_of(hash)?),
        ("index", Some(hash)) => StoredObject::Index(hash_of(hash)?),
        ("config" | "keys", Some(_)) => return Err(CliError::usage(format!("there is only one {kind}"))),
        ("log", None) => return list(kind, ObjectKind::Log, session),
        ("pack", None) => return list(kind, ObjectKind::Pack, session),
        ("index", None) => return list(kind, ObjectKind::Index, session),
        ("snapshot" | "tree", None) => {
            return Err(CliError::usage(format!("which {kind}? its name is missing")));
        }
        (_, None) => return cat_file(args, session),
        (_, Some(_)) => {
            return Err(CliError::usage(format!("'{}' is no kind of object", args.what.display()))
                .with_remedy("use config, keys, snapshot, log, tree, pack or index; or SNAP:path alone"));
        }
    };
    show(kind, &session.open_repository()?.describe(&object)?, session)
}

fn hash_of(text: &str) -> Result<ObjectHash> {
    // Names as 'dr check' prints them have their folders before them.
    let digits = text.rsplit('/').next().unwrap_or(text);
    ObjectHash::from_hex(digits).ok_or_else(|| no_name("a hash", text))
}

fn no_name(what: &str, text: &str) -> CliError {
    CliError::usage(format!("'{text}' is not {what}")).with_remedy("ids and hashes are 64 digits from 0 to f")
}

fn cat_snapshot(args: &CatArgs, session: &Session) -> Result<()> {
    let selector = Selector::parse(&args.name.clone().unwrap_or_default())?;
    let repository = session.open_repository()?;
    let snapshot = selector.find(&repository, &args.filter.to_filter())?;
    show("snapshot", &repository.describe(&StoredObject::Snapshot(snapshot.id))?, session)
}

fn cat_file(args: &CatArgs, session: &Session) -> Result<()> {
    let selector = Selector::parse(&args.what)?;
    let Some(path) = &selector.path else {
        return Err(CliError::usage(format!("'{}' names no file", args.what.display()))
            .with_remedy("write SNAP:path/to/file; 'dr cat snapshot SNAP' shows the snapshot itself"));
    };
    let repository = session.open_repository()?;
    let snapshot = selector.find(&repository, &args.filter.to_filter())?;
    let view = repository.view(&snapshot)?;
    let mut stdout = dump::raw_stdout()?;
    dump::write_content(&view, path, &mut stdout, &session.context(&())).map(drop)
}

#[derive(Debug, Serialize)]
struct NamesDocument<'a> {
    message_type: &'static str,
    schema: u32,
    kind: &'a str,
    names: Vec<String>,
}

/// Names all objects of a kind, as this command takes them.
fn list(kind: &str, of: ObjectKind, session: &Session) -> Result<()> {
    let objects = session.open_repository()?.stored_objects(of)?;
    let name = |object: &StoredObject| match object {
        StoredObject::Log(slot) => Some(slot.to_string()),
        StoredObject::Pack(hash) | StoredObject::Index(hash) => Some(hash.to_string()),
        _ => None,
    };
    let mut names = objects.iter().filter_map(name);
    if session.output.is_json() {
        let names = names.collect();
        let document = NamesDocument { message_type: "object_names", schema: json::SCHEMA, kind, names };
        return session.output.document(&document);
    }
    let mut data = session.output.data();
    names.try_for_each(|name| writeln!(data, "{name}")).and_then(|()| data.flush()).map_err(CliError::output)
}

#[derive(Debug, Serialize)]
struct ObjectDocument<'a> {
    message_type: &'static str,
    schema: u32,
    kind: &'a str,
    content: Value,
}

fn show(kind: &str, description: &Description, session: &Session) -> Result<()> {
    let value = to_json(description);
    if session.output.is_json() {
        let document = ObjectDocument { message_type: "object", schema: json::SCHEMA, kind, content: value };
        return session.output.document(&document);
    }
    let mut data = session.output.data();
    let text = serde_json::to_string_pretty(&value).map_err(|error| CliError::output(error.into()))?;
    writeln!(data, "{text}").and_then(|()| data.flush()).map_err(CliError::output)
}

fn to_json(description: &Description) -> Value {
    match description {
        Description::Flag(flag) => Value::from(*flag),
        Description::Number(number) => match (u64::try_from(*number), i64::try_from(*number)) {
            (Ok(number), _) => Value::from(number),
            (_, Ok(number)) => Value::from(number),
            _ => Value::from(number.to_string()),
        },
        Description::Text(text) => Value::from(text.as_str()),
        Description::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
        Description::List(items) => items.iter().map(to_json).collect(),
        Description::Record(fields) => {
            let mut record = Map::new();
            for (name, field) in fields {
                record.insert((*name).to_owned(), to_json(field));
                if let Some(encoded) = unless_text(field) {
                    record.insert(format!("{name}_b64"), encoded);
                }
            }
            Value::Object(record)
        }
        _ => Value::Null,
    }
}

/// Bytes, or a list of them, in base64 where one is no text.
fn unless_text(field: &Description) -> Option<Value> {
    match field {
        Description::Bytes(bytes) => json::unless_text(bytes).map(Value::from),
        Description::List(items) => {
            let bytes = |item: &Description| match item {
                Description::Bytes(bytes) => Some(bytes.clone()),
                _ => None,
            };
            let all: Vec<Vec<u8>> = items.iter().map(bytes).collect::<Option<_>>()?;
            let is_text = all.iter().all(|bytes| std::str::from_utf8(bytes).is_ok());
            (!is_text).then(|| all.iter().map(|bytes| Value::from(json::base64(bytes))).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_stand_beside_their_likeness() {
        let record = Description::Record(vec![
            ("name", Description::Bytes(b"a\xff".to_vec())),
            ("plain", Description::Bytes(b"a".to_vec())),
            ("paths", Description::List(vec![Description::Bytes(b"/\xff".to_vec())])),
            ("number", Description::Number(-3)),
            ("none", Description::Nothing),
        ]);
        let json = to_json(&record);
        assert_eq!(json["name"], "a\u{fffd}");
        assert_eq!(json["name_b64"], "Yf8=");
        assert_eq!((json["plain"].as_str(), json.get("plain_b64")), (Some("a"), None));
        assert_eq!(
            (json["paths"][0].as_str(), json["paths_b64"][0].as_str()),
            (Some("/\u{fffd}"), Some("L/8="))
        );
        assert_eq!(json["number"], -3);
        assert!(json["none"].is_null());
    }
}
