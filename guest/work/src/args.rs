//! Arguments: whole numbers with a range and a default, by position.

use core::ops::RangeInclusive;

use crate::Error;

/// The arguments of one piece of work that are not read yet.
pub struct Args<'r, 'a> {
    rest: core::slice::Iter<'r, &'a str>,
}

impl<'r, 'a> Args<'r, 'a> {
    pub fn new(args: &'r [&'a str]) -> Self {
        Args { rest: args.iter() }
    }

    /// The next argument, or `default` if there is none.
    pub fn number(
        &mut self,
        what: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, Error<'a>> {
        let Some(&value) = self.rest.next() else {
            return Ok(default);
        };
        value
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or(Error::Argument {
                what,
                value,
                least: *range.start(),
                greatest: *range.end(),
            })
    }

    /// Says that no argument may be left.
    pub fn end(mut self, usage: &'static str) -> Result<(), Error<'a>> {
        match self.rest.next() {
            None => Ok(()),
            Some(&value) => Err(Error::TooManyArguments { value, usage }),
        }
    }
}
