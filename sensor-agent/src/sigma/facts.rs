//! An event in the fields of Sigma's taxonomy. Not the matching. It may call `event` and the text functions of the
//! baseline crate.
//!
//! | field | from |
//! |---|---|
//! | `Image`, `ParentImage` | the file that was mapped: for a script its interpreter |
//! | `CommandLine`, `ParentCommandLine` | the arguments with a space in between |
//! | `CurrentDirectory` | the working directory at the exec |
//! | `User` | the effective user: `root`, or the number of another |
//! | `LogonId` | the audit login user, absent when nobody has logged in |
//! | `ProcessId`, `ParentProcessId` | in the first pid namespace |
//! | `TargetFilename` | the file's name; of a rename the new one |
//! | `DestinationIp`, `DestinationPort`, `Protocol` | where to; `tcp` or `udp` |
//! | `Initiated` | always `true`: connections that others begin are no behaviour |
//!
//! A field that is not known is absent, as rules expect it.

use super::Category;
use crate::event::Arguments;
use rsigma_eval::{Event, EventValue};
use sensor_baseline::text::unescape;
use serde_json::Value;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::net::IpAddr;

/// What an event tells rules. Texts are escaped, as events have them; rules see what was escaped.
#[derive(Debug)]
pub struct Facts<'a> {
    pid: u32,
    euid: u32,
    image: &'a str,
    doing: Doing<'a>,
    /// Joining arguments is worth doing once.
    command_line: OnceCell<Option<String>>,
    parent_command_line: OnceCell<Option<String>>,
}

/// What was done.
#[derive(Debug)]
pub enum Doing<'a> {
    /// A program was executed.
    Exec {
        /// Its arguments.
        argv: &'a Arguments,
        /// Its working directory.
        cwd: &'a str,
        /// Who logged in.
        login_uid: Option<u32>,
        /// The process that made it, when that is known.
        parent: Option<Parent<'a>>,
    },
    /// A file was made, written or renamed.
    File {
        /// Its name now.
        target: &'a str,
    },
    /// A connection was begun.
    Connection {
        /// Where to.
        address: IpAddr,
        /// To which port.
        port: u16,
        /// `tcp` or `udp`.
        protocol: &'static str,
    },
}

/// The process that made another.
#[derive(Clone, Copy, Debug)]
pub struct Parent<'a> {
    /// Which.
    pub pid: u32,
    /// Its executable.
    pub exe: &'a str,
    /// Its arguments.
    pub argv: &'a Arguments,
}

impl<'a> Facts<'a> {
    /// Of the process `pid`, which acts as `euid` and runs `image`.
    #[must_use]
    pub fn new(pid: u32, euid: u32, image: &'a str, doing: Doing<'a>) -> Self {
        let (command_line, parent_command_line) = (OnceCell::new(), OnceCell::new());
        Self { pid, euid, image, doing, command_line, parent_command_line }
    }

    pub(super) const fn category(&self) -> Category {
        match self.doing {
            Doing::Exec { .. } => Category::ProcessCreation,
            Doing::File { .. } => Category::FileEvent,
            Doing::Connection { .. } => Category::NetworkConnection,
        }
    }

    fn of_exec(&self, field: &str) -> Option<EventValue<'_>> {
        let Doing::Exec { argv, cwd, login_uid, parent } = &self.doing else { return None };
        match field {
            "CommandLine" => line(&self.command_line, argv),
            "CurrentDirectory" => text(cwd),
            "LogonId" => login_uid.map(|uid| EventValue::Int(uid.into())),
            "ParentImage" => text(parent.as_ref()?.exe),
            "ParentCommandLine" => line(&self.parent_command_line, parent.as_ref()?.argv),
            "ParentProcessId" => Some(EventValue::Int(parent.as_ref()?.pid.into())),
            _ => None,
        }
    }

    fn values(&self) -> impl Iterator<Item = (&'static str, EventValue<'_>)> {
        let fields = self.category().fields().iter();
        fields.filter_map(|field| Some((*field, self.get_field(field)?)))
    }
}

impl Event for Facts<'_> {
    fn get_field(&self, path: &str) -> Option<EventValue<'_>> {
        match (path, &self.doing) {
            ("Image", _) => text(self.image),
            ("ProcessId", _) => Some(EventValue::Int(self.pid.into())),
            ("User", _) => Some(EventValue::Str(user(self.euid))),
            ("TargetFilename", Doing::File { target }) => text(target),
            ("DestinationIp", Doing::Connection { address, .. }) => {
                Some(EventValue::Str(Cow::Owned(address.to_canonical().to_string())))
            }
            ("DestinationPort", Doing::Connection { port, .. }) => Some(EventValue::Int((*port).into())),
            ("Protocol", Doing::Connection { protocol, .. }) => {
                Some(EventValue::Str(Cow::Borrowed(protocol)))
            }
            ("Initiated", Doing::Connection { .. }) => Some(EventValue::Bool(true)),
            (field, _) => self.of_exec(field),
        }
    }

    fn any_string_value(&self, pred: &dyn Fn(&str) -> bool) -> bool {
        self.values().any(|(_, value)| matches!(&value, EventValue::Str(text) if pred(text)))
    }

    fn all_string_values(&self) -> Vec<Cow<'_, str>> {
        let texts = self.values().filter_map(|(_, value)| match value {
            EventValue::Str(text) => Some(text),
            _ => None,
        });
        texts.collect()
    }

    fn to_json(&self) -> Value {
        self.values().map(|(field, value)| (field.to_owned(), value.to_json())).collect()
    }

    fn visit_top_level_keys(&self, visit: &mut dyn FnMut(&str)) -> bool {
        self.category().fields().iter().for_each(|field| visit(field));
        true
    }
}

/// The user's name, as far as it is known without asking anybody.
fn user(uid: u32) -> Cow<'static, str> {
    if uid == 0 { Cow::Borrowed("root") } else { Cow::Owned(uid.to_string()) }
}

fn text(escaped: &str) -> Option<EventValue<'_>> {
    if escaped.is_empty() {
        return None;
    }
    plain(escaped).map(EventValue::Str)
}

fn line<'a>(cell: &'a OnceCell<Option<String>>, argv: &Arguments) -> Option<EventValue<'a>> {
    let line = cell.get_or_init(|| {
        let joined = argv.joined();
        (!argv.is_empty()).then(|| plain(&joined).map(Cow::into_owned)).flatten()
    });
    line.as_deref().map(|line| EventValue::Str(Cow::Borrowed(line)))
}

/// What was escaped; `None` for the mark that stands for what is not known any more.
fn plain(escaped: &str) -> Option<Cow<'_, str>> {
    if !escaped.contains('\\') {
        return Some(Cow::Borrowed(escaped));
    }
    let bytes = unescape(escaped).ok()?;
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}
