//! The wire format of protocol buffers: fields, each with a number and a value, one after the other
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! ```text
//! field   tag ─ value         tag = number << 3 | kind, a varint
//! kind 0  a number            a varint: seven bits a byte, the lowest first, the high bit says "and more"
//! kind 1  eight bytes
//! kind 2  a length ─ bytes    text, or a message again
//! kind 5  four bytes
//! ```

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends within a field.
    #[error("it ends within a field")]
    Short,
    /// A number of more than 64 bits.
    #[error("a number in it has more than 64 bits")]
    Long,
    /// A kind of value that is none, or no longer in use.
    #[error("field {0} is of an unknown kind")]
    Kind(u64),
}

/// A message that is being written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// Adds a number, a choice or a truth value. Negative ones are written as 64 bits, sign and all.
    #[must_use]
    pub fn number(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    /// Adds a text, or bytes.
    #[must_use]
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// Adds that something holds, if it does.
    #[must_use]
    pub fn flag(self, field: u32, holds: bool) -> Self {
        if holds { self.number(field, 1) } else { self }
    }

    /// Adds the fields of another message.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// What is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A value that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number, a choice or a truth value; or four or eight bytes, of which only the length is known.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

impl Value<'_> {
    /// The number that it is, as a 32-bit one with a sign: those were made longer by their sign.
    pub fn int(self) -> i32 {
        match self {
            Self::Number(number) => number as i32,
            Self::Bytes(_) => 0,
        }
    }

    /// The text that it is; what is no UTF-8 in it is replaced.
    pub fn text(self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Number(_) => String::new(),
        }
    }
}

/// The fields of a message, in order; after an error there are no more.
pub struct Fields<'a>(&'a [u8]);

/// Reads a message, whoever sent it.
pub fn fields(message: &[u8]) -> Fields<'_> {
    Fields(message)
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Error::Short)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Error::Long);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Long)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::Short)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Error::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Error> {
        let tag = self.varint()?;
        let number = |bytes: &[u8]| {
            let digits = bytes.iter().rev();
            Value::Number(digits.fold(0, |number, byte| number << 8 | u64::from(*byte)))
        };
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => number(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => number(self.take(4)?),
            _ => return Err(Error::Kind(tag >> 3)),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Error> {
        fields(bytes).collect()
    }

    #[test]
    fn a_message_is_what_the_format_s_own_pages_show() {
        // <https://protobuf.dev/programming-guides/encoding/>: `a: 150`, `b: "testing"`, `c: {a: 150}`.
        let number = Message::default().number(1, 150);
        assert_eq!(number.as_bytes(), [0x08, 0x96, 0x01]);
        let text = Message::default().bytes(2, b"testing");
        assert_eq!(text.as_bytes(), b"\x12\x07testing");
        let inner = Message::default().message(3, &number);
        assert_eq!(inner.as_bytes(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let negative = Message::default().number(1, -2);
        assert_eq!(negative.as_bytes().len(), 11);
        assert_eq!(read(negative.as_bytes()).unwrap()[0].1.int(), -2);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        assert_eq!(read(&[0x08]), Err(Error::Short));
        assert_eq!(read(&[0x12, 0x05, b'a']), Err(Error::Short));
        assert_eq!(read(&[0x08, 0x80]), Err(Error::Short));
        assert_eq!(read(&[0x09, 1, 2, 3]), Err(Error::Short));
        assert_eq!(read(&[0x0b]), Err(Error::Kind(1)));
        let endless = [&[0x08][..], &[0xff; 10], &[1]].concat();
        assert_eq!(read(&endless), Err(Error::Long));
        assert_eq!(read(&[0x0d, 1, 2, 0, 0]), Ok(vec![(1, Value::Number(513))]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            parts in prop::collection::vec((1u32..1 << 29, any::<i64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..8)
        ) {
            let mut message = Message::default();
            let mut expected = Vec::new();
            for (field, number, bytes) in &parts {
                message = message.number(*field, *number).bytes(*field, bytes);
                expected.push((u64::from(*field), Value::Number(*number as u64)));
                expected.push((u64::from(*field), Value::Bytes(bytes)));
            }
            prop_assert_eq!(read(message.as_bytes()), Ok(expected));
        }

        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut ended = false;
            for field in fields(&bytes) {
                prop_assert!(!ended, "a field after an error");
                ended = field.is_err();
            }
        }
    }
}
