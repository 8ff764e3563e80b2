//! The wire format of D-Bus, as much of it as a few calls to systemd need: little-endian, every value at a
//! multiple of its own size from the start of its message.
//!
//! ```text
//! l │ type │ flags │ 1 │ length of the body │ serial │ fields: array of (code, variant) │ padding to 8 │ body
//! ```
//!
//! Source: the D-Bus specification, "Message Protocol".

/// A value as a property of a unit has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Flag(bool),
    /// `t`
    Number(u64),
    /// `s`
    Text(String),
    /// `au`
    Numbers(Vec<u32>),
    /// `ay`
    Bytes(Vec<u8>),
}

/// A property and its value.
pub type Property = (&'static str, Value);

/// A body, and the signature that tells what is in it.
#[derive(Debug, Default)]
pub struct Body {
    signature: String,
    bytes: Vec<u8>,
}

impl Body {
    /// Adds a text.
    pub fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        string(&mut self.bytes, text);
        self
    }

    /// Adds a truth value.
    pub fn flag(mut self, flag: bool) -> Self {
        self.signature.push('b');
        number(&mut self.bytes, flag.into());
        self
    }

    /// Adds a list of properties.
    pub fn properties(mut self, list: &[Property]) -> Self {
        self.signature.push_str("a(sv)");
        array(&mut self.bytes, 8, list, |out, (name, value)| {
            align(out, 8);
            string(out, name);
            variant(out, value);
        });
        self
    }

    /// Adds a list of further units to start, none.
    pub fn no_units(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        array(&mut self.bytes, 8, &[(); 0], |_, ()| {});
        self
    }
}

/// Where a call goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The object's name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface of the method.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// How long the part of a message is that tells how long the rest is.
pub const PROLOGUE_BYTES: usize = 16;

/// A call as bytes.
pub fn call(serial: u32, target: &Target<'_>, body: &Body) -> Vec<u8> {
    let mut out = vec![b'l', METHOD_CALL, 0, 1];
    number(&mut out, body.bytes.len() as u32);
    number(&mut out, serial);
    let fields = [
        (PATH, 'o', target.path),
        (INTERFACE, 's', target.interface),
        (MEMBER, 's', target.member),
        (DESTINATION, 's', target.destination),
        (SIGNATURE, 'g', body.signature.as_str()),
    ];
    array(&mut out, 8, &fields, |out, (code, kind, text)| {
        align(out, 8);
        out.push(*code);
        signature(out, &kind.to_string());
        match kind {
            'g' => signature(out, text),
            _ => string(out, text),
        }
    });
    align(&mut out, 8);
    out.extend_from_slice(&body.bytes);
    out
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The body.
    Done(Vec<u8>),
    /// The error's name and its text.
    Failed(String, String),
}

/// How long a message is in all, from its [prologue](PROLOGUE_BYTES); none if that is not one.
pub fn length(prologue: &[u8]) -> Option<usize> {
    let mut reader = Reader {
        bytes: prologue,
        at: 4,
    };
    let (body, _, fields) = (reader.number()?, reader.number()?, reader.number()?);
    (prologue.first() == Some(&b'l'))
        .then(|| PROLOGUE_BYTES + (fields as usize).next_multiple_of(8) + body as usize)
}

/// A whole message, if it answers the call with this serial number.
pub fn answer(message: &[u8], serial: u32) -> Option<Answer> {
    let kind = *message.get(1)?;
    let mut reader = Reader {
        bytes: message,
        at: 12,
    };
    let end = PROLOGUE_BYTES + reader.number()? as usize;
    let (mut answers, mut name) = (None, String::new());
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        match (code, reader.signature()?) {
            (REPLY_SERIAL, "u") => answers = Some(reader.number()?),
            (ERROR_NAME, "s") => name = reader.string()?.into(),
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.number()?),
            _ => return None,
        }
    }
    let body = message.get(end.next_multiple_of(8)..)?;
    match kind {
        _ if answers != Some(serial) => None,
        METHOD_RETURN => Some(Answer::Done(body.into())),
        ERROR => Some(Answer::Failed(name, text(body).unwrap_or_default().into())),
        _ => None,
    }
}

/// The text that a body begins with.
pub fn text(body: &[u8]) -> Option<&str> {
    Reader { bytes: body, at: 0 }.string()
}

/// The text in the variant that a body begins with.
pub fn variant_text(body: &[u8]) -> Option<&str> {
    let mut reader = Reader { bytes: body, at: 0 };
    (reader.signature()? == "s").then(|| reader.string())?
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn number(out: &mut Vec<u8>, number: u32) {
    align(out, 4);
    out.extend_from_slice(&number.to_le_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn signature(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// The length counts from the first element on, not the padding before it.
fn array<T>(out: &mut Vec<u8>, to: usize, list: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    number(out, 0);
    let length = out.len() - 4;
    align(out, to);
    let start = out.len();
    list.iter().for_each(|it| write(out, it));
    let bytes = (out.len() - start) as u32;
    out[length..length + 4].copy_from_slice(&bytes.to_le_bytes());
}

fn variant(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Flag(flag) => {
            signature(out, "b");
            number(out, (*flag).into());
        }
        Value::Number(it) => {
            signature(out, "t");
            align(out, 8);
            out.extend_from_slice(&it.to_le_bytes());
        }
        Value::Text(text) => {
            signature(out, "s");
            string(out, text);
        }
        Value::Numbers(list) => {
            signature(out, "au");
            array(out, 4, list, |out, it| number(out, *it));
        }
        Value::Bytes(list) => {
            signature(out, "ay");
            array(out, 1, list, |out, it| out.push(*it));
        }
    }
}

/// Reads what somebody else wrote: nothing is trusted to be there.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|it| it[0])
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = self.number()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.byte().map(|_| text)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?.into();
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        self.byte().map(|_| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Target<'_> = Target {
        destination: "a.b",
        path: "/a",
        interface: "c.d",
        member: "Do",
    };

    #[test]
    fn a_call_is_what_the_specification_says() {
        let message = call(7, &TARGET, &Body::default().text("hi").flag(true));
        let expected = b"l\x01\0\x01\x0c\0\0\0\x07\0\0\0\x48\0\0\0\
            \x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0\
            \x02\x01s\0\x03\0\0\0c.d\0\0\0\0\0\
            \x03\x01s\0\x02\0\0\0Do\0\0\0\0\0\0\
            \x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0\
            \x08\x01g\0\x02sb\0\
            \x02\0\0\0hi\0\0\x01\0\0\0";
        assert_eq!(message, expected);
        assert_eq!(length(&message[..PROLOGUE_BYTES]), Some(message.len()));
    }

    #[test]
    fn a_property_is_a_structure_at_a_multiple_of_eight() {
        let body =
            Body::default().properties(&[("N", Value::Number(5)), ("L", Value::Numbers(vec![9]))]);
        assert_eq!(body.signature, "a(sv)");
        let expected = b"\x2c\0\0\0\0\0\0\0\
            \x01\0\0\0N\0\x01t\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\
            \x01\0\0\0L\0\x02au\0\0\0\x04\0\0\0\x09\0\0\0";
        assert_eq!(body.bytes, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), serial: u32) {
            let _ = (length(&bytes), answer(&bytes, serial), text(&bytes), variant_text(&bytes));
        }

        #[test]
        fn every_part_of_a_message_can_be_missing(cut in 0usize..200) {
            let message = call(7, &TARGET, &Body::default().text("hi"));
            let _ = answer(&message[..cut.min(message.len())], 7);
        }
    }
}
