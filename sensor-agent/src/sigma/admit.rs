//! Which rules can be put in force, and why the others cannot. No I/O. It may call the rule
//! engine and the baseline crate's types.

use super::{Admitted, Category, Rule};
use rsigma_eval::compile_rule;
use rsigma_parser::{Detection, DetectionItem, Level, Modifier, SigmaRule, SigmaValue};
use sensor_baseline::Severity;
use std::path::PathBuf;
use std::sync::Arc;

/// Why a rule, or a file of rules, is not in force.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is too large.
    #[error("longer than {0} bytes")]
    TooLarge(u64),
    /// The folder holds too many files.
    #[error("more than {0} files: neither this one nor any that follows is read")]
    TooMany(usize),
    /// The folder lies too deep.
    #[error("more than {0} folders deep: not looked into")]
    TooDeep(usize),
    /// It is no rule.
    #[error("{0}")]
    Parse(String),
    /// It has no detection of its own.
    #[error("a {0}: only rules that match single events are supported")]
    Kind(&'static str),
    /// It is about something else.
    #[error("its log source is {}", shown(.0))]
    Logsource(String),
    /// It needs what no event has.
    #[error("{category} events do not have the field {}", shown(.field))]
    Field {
        /// The field.
        field: String,
        /// The rule's category.
        category: &'static str,
    },
    /// It asks for a user by name.
    #[error("User {}: only root and user numbers are known", shown(.0))]
    User(String),
    /// It looks for words anywhere.
    #[error("it looks for words in any field, and events are no free text")]
    Keywords,
    /// Its dashes stand for too much.
    #[error("|windash makes more than {WINDASH_TEXTS_MAX} texts of its values, as of {0:?}")]
    Windash(String),
    /// A placeholder that nothing fills in.
    #[error("|expand of {0:?}: no placeholder has a value")]
    Placeholder(String),
    /// Another rule has its id.
    #[error("its id {id} is that of a rule in {}", file.display())]
    Repeated {
        /// The id.
        id: Arc<str>,
        /// Where the other is.
        file: PathBuf,
    },
    /// A text is too long to be told with each finding.
    #[error("its {0} is longer than {TEXT_BYTES_MAX} bytes")]
    LongText(&'static str),
    /// A text would not stay on its line.
    #[error("its {what} is no text on one line: {text:?}")]
    Control {
        /// Which.
        what: &'static str,
        /// The text.
        text: String,
    },
}

impl Refusal {
    pub(super) fn parse(error: &dyn std::fmt::Display) -> Self {
        Self::Parse(one_line(error))
    }
}

/// Takes a rule, or says why not. Its place is the one it will have.
pub(super) fn admit(rule: SigmaRule, place: usize) -> Result<Admitted, Refusal> {
    let category = category(&rule)?;
    let mut checker = Checker { category, windash_texts: 0 };
    for detection in rule.detection.named.values() {
        checker.check(detection)?;
    }
    let title = rule.title.clone();
    let id = Arc::from(rule.id.as_deref().unwrap_or(&title));
    let about = Rule { id, level: severity(rule.level), techniques: techniques(&rule.tags), title };
    for (what, text) in [("id", &*about.id), ("title", &about.title)] {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Refusal::LongText(what));
        }
        if text.chars().any(char::is_control) {
            return Err(Refusal::Control { what, text: text.to_owned() });
        }
    }
    let numbered = SigmaRule { id: Some(place.to_string()), ..rule };
    let compiled = compile_rule(&numbered).map_err(|error| Refusal::parse(&error))?;
    Ok(Admitted { category, rule: about, compiled })
}

fn category(rule: &SigmaRule) -> Result<Category, Refusal> {
    let source = &rule.logsource;
    let known = |name: &String| Category::ALL.into_iter().find(|category| category.name() == name);
    let is_linux = source.product.as_deref().is_none_or(|product| product == "linux");
    match source.category.as_ref().and_then(known) {
        Some(category) if is_linux && source.service.is_none() && source.custom.is_empty() => Ok(category),
        _ => {
            let parts =
                [("product", &source.product), ("category", &source.category), ("service", &source.service)];
            let mut told: Vec<String> = parts
                .into_iter()
                .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)))
                .collect();
            told.extend(source.custom.iter().map(|(name, value)| format!("{name} {value}")));
            Err(Refusal::Logsource(if told.is_empty() { "empty".to_owned() } else { told.join(", ") }))
        }
    }
}

/// Looks at all detections of one rule.
struct Checker {
    category: Category,
    /// What its values under `|windash` are compiled to so far.
    windash_texts: usize,
}

impl Checker {
    fn check(&mut self, detection: &Detection) -> Result<(), Refusal> {
        match detection {
            Detection::AllOf(items) => items.iter().try_for_each(|item| self.check_item(item)),
            Detection::AnyOf(parts) | Detection::And(parts) => {
                parts.iter().try_for_each(|part| self.check(part))
            }
            Detection::Keywords(_) => Err(Refusal::Keywords),
            // No field of ours is a list.
            Detection::ArrayMatch { field, .. } => Err(missing(field, self.category)),
            Detection::Conditional { named, .. } => named.values().try_for_each(|part| self.check(part)),
        }
    }

    fn check_item(&mut self, item: &DetectionItem) -> Result<(), Refusal> {
        let Some(field) = &item.field.name else { return Err(Refusal::Keywords) };
        self.check_field(field)?;
        if field == "User" && !item.field.has_modifier(Modifier::FieldRef) {
            item.values.iter().try_for_each(check_user)?;
        }
        if item.field.has_modifier(Modifier::FieldRef) {
            item.values.iter().try_for_each(|value| self.check_field(&text_of(value)))?;
        }
        if item.field.has_modifier(Modifier::Expand) {
            return Err(Refusal::Placeholder(item.values.first().map(text_of).unwrap_or_default()));
        }
        if item.field.has_modifier(Modifier::WindAsh) {
            item.values.iter().try_for_each(|value| self.count_windash(value))?;
        }
        Ok(())
    }

    fn check_field(&self, field: &str) -> Result<(), Refusal> {
        if self.category.fields().contains(&field) { Ok(()) } else { Err(missing(field, self.category)) }
    }

    /// The engine makes a text of every way to write each dash.
    fn count_windash(&mut self, value: &SigmaValue) -> Result<(), Refusal> {
        let SigmaValue::String(text) = value else { return Ok(()) };
        let text = &text.original;
        let dashes = u32::try_from(text.matches('-').count()).unwrap_or(u32::MAX);
        let texts = WINDASH_DASHES.saturating_pow(dashes).saturating_mul(1 + text.len() / WINDASH_TEXT_BYTES);
        self.windash_texts = self.windash_texts.saturating_add(texts);
        if self.windash_texts > WINDASH_TEXTS_MAX {
            return Err(Refusal::Windash(text_of(value)));
        }
        Ok(())
    }
}

/// Whether the user is one that events name as the rule does.
fn check_user(value: &SigmaValue) -> Result<(), Refusal> {
    match value {
        SigmaValue::String(name) => {
            let name = &name.original;
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            if is_number || name == "root" { Ok(()) } else { Err(Refusal::User(name.clone())) }
        }
        _ => Ok(()),
    }
}

/// A value for a message, shortened when long.
fn text_of(value: &SigmaValue) -> String {
    let text = match value {
        SigmaValue::String(text) => text.original.clone(),
        other => format!("{other:?}"),
    };
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn missing(field: &str, category: Category) -> Refusal {
    Refusal::Field { field: field.to_owned(), category: category.name() }
}

/// A rule without a level is as bad as most.
const fn severity(level: Option<Level>) -> Severity {
    match level {
        Some(Level::Informational) => Severity::Informational,
        Some(Level::Low) => Severity::Low,
        Some(Level::Medium) | None => Severity::Medium,
        Some(Level::High) => Severity::High,
        Some(Level::Critical) => Severity::Critical,
    }
}

fn techniques(tags: &[String]) -> Vec<String> {
    let ids = tags.iter().filter_map(|tag| {
        let id = tag.to_ascii_lowercase().strip_prefix("attack.t")?.to_owned();
        let is_number = id.len() <= TECHNIQUE_BYTES_MAX
            && id.starts_with(|first: char| first.is_ascii_digit())
            && id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        is_number.then(|| format!("T{id}"))
    });
    ids.take(TECHNIQUES_MAX).collect()
}

fn one_line(text: &dyn std::fmt::Display) -> String {
    shown(&text.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A text of a rule with its control characters escaped, for a message.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// Bytes of an id or a title at most: every finding tells them.
const TEXT_BYTES_MAX: usize = 256;
/// Bytes of a technique's number at most: 1059.004 has eight.
const TECHNIQUE_BYTES_MAX: usize = 8;
/// Techniques of a rule that are told at most.
const TECHNIQUES_MAX: usize = 16;
/// Texts that the values of a rule under `|windash` may become: they are all held in memory.
const WINDASH_TEXTS_MAX: usize = 10_000;
/// What the engine takes for a dash.
const WINDASH_DASHES: usize = 5;
/// A text counts once more for each time that it has so many bytes.
const WINDASH_TEXT_BYTES: usize = 128;
/// Characters of a value that a reason shows at most.
const SHOWN_CHARS_MAX: usize = 64;
