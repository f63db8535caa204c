//! YAML events with their places, and what this format refuses of YAML: anchors, aliases, tags, a second document,
//! tabs. Not the grammar of a baseline (see `read`). May call: saphyr-parser.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::error::ParseError;

/// Where something stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };

    fn of(marker: &Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }

    pub(super) fn line(self) -> usize {
        self.line
    }

    pub(super) fn error(self, expected: impl Into<String>, found: impl Into<String>) -> ParseError {
        ParseError { line: self.line, column: self.column, expected: expected.into(), found: found.into() }
    }
}

/// One word of the text.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) place: Place,
    is_plain: bool,
}

impl Scalar {
    /// How an error names it.
    pub(super) fn describe(&self) -> String {
        match self.kind() {
            Kind::Nothing => "nothing".to_owned(),
            Kind::Text => format!("{:?}", shortened(&self.text)),
            Kind::Number => format!("the number {}", shortened(&self.text)),
            Kind::Truth => format!("the truth value {}", shortened(&self.text)),
        }
    }

    /// Whether nothing stands here, or YAML's `null`.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.kind(), Kind::Nothing)
    }

    /// The text, unless YAML reads it as something else.
    pub(super) fn into_text(self, expected: &str) -> Result<(String, Place), ParseError> {
        match self.kind() {
            Kind::Text if !self.text.is_empty() => Ok((self.text, self.place)),
            Kind::Text | Kind::Nothing => Err(self.place.error(expected, "nothing")),
            Kind::Number | Kind::Truth => {
                Err(self.place.error(format!("{expected} (in quotes, to make it a text)"), self.describe()))
            }
        }
    }

    fn kind(&self) -> Kind {
        if self.is_plain { plain_kind(&self.text) } else { Kind::Text }
    }
}

/// What YAML 1.2 makes of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nothing,
    Text,
    Number,
    Truth,
}

/// What YAML's core schema makes of a word without quotes.
pub(super) fn plain_kind(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Nothing,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Kind::Truth,
        ".nan" | ".NaN" | ".NAN" => return Kind::Number,
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    let is_radix = digits.starts_with("0x") || digits.starts_with("0o");
    let starts_as_number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let is_infinite = matches!(digits, ".inf" | ".Inf" | ".INF");
    let is_number = is_infinite || (starts_as_number && (is_radix || text.parse::<f64>().is_ok()));
    if is_number { Kind::Number } else { Kind::Text }
}

/// The next thing of the text, with the things this format refuses already refused.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Scalar(Scalar),
    List(Place),
    Map(Place),
    /// The end of the list or map that is open.
    End(Place),
}

impl Node {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Scalar(scalar) => scalar.place,
            Self::List(place) | Self::Map(place) | Self::End(place) => *place,
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.describe(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
            Self::End(_) => "the end".to_owned(),
        }
    }

    pub(super) fn unexpected(&self, expected: &str) -> ParseError {
        self.place().error(expected, self.describe())
    }
}

/// The nodes of one document.
pub(super) struct Nodes<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Nodes<'a> {
    /// Opens the one document of a text.
    pub(super) fn open(text: &'a str) -> Result<Self, ParseError> {
        refuse_tabs(text)?;
        let mut nodes = Self { parser: Parser::new_from_str(text) };
        loop {
            match nodes.event()? {
                (Event::StreamStart | Event::Nothing, _) => {}
                (Event::DocumentStart(_), _) => return Ok(nodes),
                _ => {
                    return Err(
                        Place::START.error("a baseline with fleet and workloads", "an empty document")
                    );
                }
            }
        }
    }

    /// The next node.
    pub(super) fn next(&mut self) -> Result<Node, ParseError> {
        loop {
            let (event, span) = self.event()?;
            let place = Place::of(&span.start);
            let (node, anchor, tag) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    refuse_lines(&text, style, &span)?;
                    let is_plain = style == ScalarStyle::Plain;
                    (Node::Scalar(Scalar { text: text.into_owned(), place, is_plain }), anchor, tag)
                }
                Event::SequenceStart(anchor, tag) => (Node::List(place), anchor, tag),
                Event::MappingStart(anchor, tag) => (Node::Map(place), anchor, tag),
                Event::SequenceEnd | Event::MappingEnd | Event::DocumentEnd | Event::StreamEnd => {
                    return Ok(Node::End(place));
                }
                Event::Alias(_) => return Err(place.error("everything written out", "an alias (*NAME)")),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
            };
            if anchor != 0 {
                return Err(place.error("everything written out", "an anchor (&NAME)"));
            }
            if let Some(tag) = tag {
                return Err(place.error("no type tags", format!("the tag {tag}")));
            }
            return Ok(node);
        }
    }

    /// Checks that nothing follows the document.
    pub(super) fn close(mut self) -> Result<(), ParseError> {
        loop {
            match self.event()? {
                (Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, span) => return Err(Place::of(&span.start).error("one document", "a second one")),
            }
        }
    }

    fn event(&mut self) -> Result<(Event<'a>, Span), ParseError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Place::of(error.marker()).error("YAML", error.info())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }
}

/// Refuses a text over more than one line: in a review it looks like two entries, and YAML makes one of them.
fn refuse_lines(text: &str, style: ScalarStyle, span: &Span) -> Result<(), ParseError> {
    let found = match style {
        ScalarStyle::Literal | ScalarStyle::Folded => "a block text (| or >)".to_owned(),
        _ if span.end.line() == span.start.line() => return Ok(()),
        _ => format!("{:?} over more than one", shortened(text)),
    };
    Err(Place::of(&span.start).error("a text on one line", found))
}

/// Says plainly what YAML parsers say in riddles.
fn refuse_tabs(text: &str) -> Result<(), ParseError> {
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indent].find('\t')
            && !line[indent..].is_empty()
            && !line[indent..].starts_with('#')
        {
            return Err(Place { line: at + 1, column: tab + 1 }.error("spaces as indentation", "a tab"));
        }
    }
    Ok(())
}

/// The start of a text, as much as an error repeats.
fn shortened(text: &str) -> &str {
    const CHARS_MAX: usize = 200;
    text.char_indices().nth(CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}
