//! A template, read once: text, times and fields. Pure.

use std::fmt::Write;

use jiff::civil::DateTime;

/// A template that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) parts: Vec<Part>,
    /// The names that [`Part::Field`] counts.
    pub(super) fields: Vec<String>,
    pub(super) has_time: bool,
}

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Time(Unit),
    /// Which of the template's fields.
    Field(usize),
}

/// A unit of time, always with the same number of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Year,
    Month,
    Day,
    Hour,
    Minute,
}

impl Unit {
    const ALL: [(&'static str, Self); 5] =
        [("yyyy", Self::Year), ("MM", Self::Month), ("dd", Self::Day), ("HH", Self::Hour), ("mm", Self::Minute)];

    pub(super) fn render(self, time: DateTime, path: &mut String) {
        // Writing to a string does not fail.
        let _ = match self {
            Self::Year => write!(path, "{:04}", time.year()),
            Self::Month => write!(path, "{:02}", time.month()),
            Self::Day => write!(path, "{:02}", time.day()),
            Self::Hour => write!(path, "{:02}", time.hour()),
            Self::Minute => write!(path, "{:02}", time.minute()),
        };
    }
}

/// A segment of a template: text and what is in braces.
enum Token<'a> {
    Text(&'a str),
    Braces(&'a str),
}

impl Template {
    /// # Errors
    /// It cannot be read: why.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut template = Self { parts: Vec::new(), fields: Vec::new(), has_time: false };
        let mut keys: Vec<&str> = Vec::new();
        for (index, segment) in text.split('/').enumerate() {
            if segment.is_empty() {
                return Err("a folder's name is empty: there is no slash at its ends, and no two in a row".to_owned());
            }
            if index > 0 {
                template.text("/");
            }
            let key = template.segment(segment).map_err(|why| format!("{why} (in \"{segment}\")"))?;
            if let Some(key) = key {
                if keys.contains(&key) {
                    return Err(format!("key \"{key}\" is there twice"));
                }
                keys.push(key);
            }
        }
        let has = |unit| template.parts.contains(&Part::Time(unit));
        if has(Unit::Minute) && !has(Unit::Hour) {
            return Err("{mm} is the minute, and there is no {HH}: the month is {MM}".to_owned());
        }
        Ok(template)
    }

    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// Reads one folder's name; gives its key.
    fn segment<'a>(&mut self, segment: &'a str) -> Result<Option<&'a str>, String> {
        let tokens = tokens(segment)?;
        let literal = |token: &Token<'a>| if let Token::Text(text) = *token { Some(text) } else { None };
        for text in tokens.iter().filter_map(literal) {
            if let Some(c) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-.=".contains(*c))) {
                return Err(format!("{c:?} may not stand in a folder's name"));
            }
        }
        if tokens.iter().filter_map(literal).any(|text| text.contains("..")) {
            return Err("a folder's name has no \"..\"".to_owned());
        }
        let first = tokens.first().and_then(literal).unwrap_or_default();
        if first.starts_with(['.', '_']) {
            return Err("readers skip folders whose names begin with '.' or '_'".to_owned());
        }
        if tokens.last().and_then(literal).is_some_and(|last| last.ends_with(['.', '='])) {
            return Err("a folder's name may not end with '.' or '='".to_owned());
        }
        let literals: String = tokens.iter().filter_map(literal).collect();
        if first.starts_with('=') || literals.matches('=').count() > 1 {
            return Err("a folder's name has the form key=value".to_owned());
        }
        let key = first.split_once('=').map(|(key, _)| key);
        for token in &tokens {
            match *token {
                Token::Text(text) => self.text(text),
                Token::Braces(inside) => match units(inside) {
                    Some(parts) => {
                        self.has_time = true;
                        parts.into_iter().for_each(|part| self.push(part));
                    }
                    None => {
                        let name = field_name(inside)?;
                        let alone = tokens.len() == 2 && key.is_some() && first.ends_with('=');
                        if !alone {
                            return Err(format!("a field stands alone after its key: {name}={{{name}}}"));
                        }
                        let part = self.field(name);
                        self.parts.push(part);
                    }
                },
            }
        }
        Ok(key)
    }

    fn push(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text(&text),
            part => self.parts.push(part),
        }
    }

    fn field(&mut self, name: &str) -> Part {
        let known = self.fields.iter().position(|field| field == name);
        Part::Field(known.unwrap_or_else(|| {
            self.fields.push(name.to_owned());
            self.fields.len().saturating_sub(1)
        }))
    }
}

/// Splits a folder's name at its braces.
fn tokens(segment: &str) -> Result<Vec<Token<'_>>, String> {
    let (mut tokens, mut rest) = (Vec::new(), segment);
    while let Some((text, behind)) = rest.split_once('{') {
        if text.contains('}') {
            return Err("there is a '}' without a '{' before it".to_owned());
        }
        let Some((inside, behind)) = behind.split_once('}') else {
            return Err("there is a '{' without a '}' behind it".to_owned());
        };
        if inside.contains('{') {
            return Err("there is a '{' inside of braces".to_owned());
        }
        if !text.is_empty() {
            tokens.push(Token::Text(text));
        }
        tokens.push(Token::Braces(inside));
        rest = behind;
    }
    if rest.contains('}') {
        return Err("there is a '}' without a '{' before it".to_owned());
    }
    if !rest.is_empty() {
        tokens.push(Token::Text(rest));
    }
    Ok(tokens)
}

/// The units of a time, with what is between them; `None`: it is not a time.
fn units(inside: &str) -> Option<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), inside);
    while !rest.is_empty() {
        if let Some((name, unit)) = Unit::ALL.iter().find(|(name, _)| rest.starts_with(name)) {
            parts.push(Part::Time(*unit));
            rest = rest.strip_prefix(name)?;
        } else {
            let between = rest.chars().next().filter(|c| matches!(c, '-' | '_' | '.'))?;
            if !matches!(parts.last(), Some(Part::Time(_))) {
                return None;
            }
            parts.push(Part::Text(between.to_string()));
            rest = rest.strip_prefix(between)?;
        }
    }
    matches!(parts.last(), Some(Part::Time(_))).then_some(parts)
}

fn field_name(inside: &str) -> Result<&str, String> {
    if inside.is_empty() {
        return Err("there is nothing in the braces".to_owned());
    }
    if inside.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{inside:?} is no field's name"));
    }
    Ok(inside)
}

/// What was meant, perhaps, by a name that stands for nothing.
pub(super) fn hint(name: &str) -> &'static str {
    let is_time = name.chars().all(|c| "yYMmdDhHsS-_.:".contains(c));
    if is_time { ": times are made of yyyy, MM, dd, HH and mm, with '-', '_' or '.' between them" } else { "" }
}
