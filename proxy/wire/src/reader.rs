//! A bounds-checked cursor over a message body.

/// A message that is not what the protocol allows. Ends the session it came from with SQLSTATE 08P01.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The body ends before its contents do.
    #[error("message ends within {0}")]
    Truncated(&'static str),
    /// The body goes on after its contents.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// A length field is negative or contradicts another.
    #[error("invalid length of {0}")]
    Length(&'static str),
    /// The length of a frame is below 4.
    #[error("frame {tag:?} declares a length of {length}, which is below 4")]
    FrameLength {
        /// Message tag.
        tag: char,
        /// Declared length.
        length: u32,
    },
    /// The frame is larger than configured.
    #[error("frame {tag:?} of {length} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Message tag.
        tag: char,
        /// Declared length.
        length: u32,
        /// Limit.
        limit: usize,
    },
    /// A value outside of what the protocol defines.
    #[error("invalid value of {0}")]
    Value(&'static str),
}

/// The cursor. Every read names what it reads, for the error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `body`.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What was not read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn bytes(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(WireError::Truncated(what))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated(what))?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Int16.
    ///
    /// # Errors
    /// When truncated.
    pub fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        self.array(what).map(i16::from_be_bytes)
    }

    /// Int16 used as a count, 0 to 65,535 as the server reads it.
    ///
    /// # Errors
    /// When truncated.
    pub fn count(&mut self, what: &'static str) -> Result<usize, WireError> {
        self.array(what).map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    /// Int32.
    ///
    /// # Errors
    /// When truncated.
    pub fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// Int32 without a sign (an OID).
    ///
    /// # Errors
    /// When truncated.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// A value with an Int32 length before it; -1 is NULL.
    ///
    /// # Errors
    /// When truncated or the length is below -1.
    pub fn value(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32(what)? {
            -1 => Ok(None),
            n => {
                let n = usize::try_from(n).map_err(|_| WireError::Length(what))?;
                self.bytes(n, what).map(Some)
            }
        }
    }

    /// A zero-terminated string, without the zero.
    ///
    /// # Errors
    /// When no zero follows.
    pub fn cstring(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(WireError::Truncated(what))?;
        let text = self.bytes(end, what)?;
        self.u8(what)?;
        Ok(text)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// When something is.
    pub const fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}
