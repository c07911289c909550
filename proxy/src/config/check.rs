//! Checks shared by the sections: where a value stands in the text, and the few shapes many keys have.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

use super::ConfigError;

/// The document being checked and the directory its paths are relative to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) text: &'a str,
    pub(super) base: &'a Path,
}

impl Place<'_> {
    pub(super) fn fault(&self, key: &str, span: Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError::at(self.text, key, span, message)
    }

    /// A non-empty text without control characters.
    pub(super) fn text(&self, key: &str, value: &Spanned<String>) -> Result<String, ConfigError> {
        let text = value.get_ref();
        if text.trim().is_empty() {
            return Err(self.fault(key, value.span(), "must not be empty"));
        }
        if text.chars().any(char::is_control) {
            return Err(self.fault(key, value.span(), "must not contain control characters"));
        }
        Ok(text.clone())
    }

    /// A short name of letters, digits, `-`, `_` and `.`.
    pub(super) fn name(&self, key: &str, value: &Spanned<String>) -> Result<String, ConfigError> {
        let text = self.text(key, value)?;
        let fits = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if fits { Ok(text) } else { Err(self.fault(key, value.span(), "must be at most 64 letters, digits, '-', '_' or '.'")) }
    }

    pub(super) fn path(&self, key: &str, value: &Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
        if value.get_ref().as_os_str().is_empty() {
            return Err(self.fault(key, value.span(), "must not be empty"));
        }
        Ok(super::resolve(self.base, value.get_ref()))
    }

    /// A path to a file that is there already.
    pub(super) fn existing(&self, key: &str, value: &Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
        let path = self.path(key, value)?;
        match std::fs::metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(path),
            Ok(_) => Err(self.fault(key, value.span(), format!("{} is not a file", path.display()))),
            Err(error) => Err(self
                .fault(key, value.span(), format!("cannot read {}: {error}", path.display()))
                .hint("paths are relative to the configuration file")),
        }
    }

    pub(super) fn address(&self, key: &str, value: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
        let found = value.get_ref().to_socket_addrs().ok().and_then(|mut all| all.next());
        found.ok_or_else(|| {
            self.fault(key, value.span(), format!("{:?} is not an address", value.get_ref()))
                .hint("write it as \"127.0.0.1:6432\" or \"0.0.0.0:6432\"")
        })
    }

    /// A whole number within bounds, or the default.
    pub(super) fn number<T>(&self, key: &str, value: Option<&Spanned<T>>, default: T, bounds: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: Copy + PartialOrd + std::fmt::Display,
    {
        let Some(value) = value else { return Ok(default) };
        let number = *value.get_ref();
        if bounds.contains(&number) {
            Ok(number)
        } else {
            Err(self.fault(key, value.span(), format!("{number} is out of range")).hint(format!(
                "between {} and {}",
                bounds.start(),
                bounds.end()
            )))
        }
    }

    pub(super) fn seconds(
        &self,
        key: &str,
        value: Option<&Spanned<u64>>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigError> {
        self.number(key, value, default, bounds).map(Duration::from_secs)
    }

    pub(super) fn milliseconds(
        &self,
        key: &str,
        value: Option<&Spanned<u64>>,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Result<Duration, ConfigError> {
        self.number(key, value, default, bounds).map(Duration::from_millis)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, key: &str, value: &Spanned<String>, words: &[(&str, T)]) -> Result<T, ConfigError> {
        words.iter().find(|(word, _)| word == value.get_ref()).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.fault(key, value.span(), format!("{:?} is not known here", value.get_ref())).hint(format!("one of {}", known.join(", ")))
        })
    }

    /// A key that one choice of another key demands.
    pub(super) fn required<'v, T>(
        &self,
        key: &str,
        value: Option<&'v Spanned<T>>,
        because: &Spanned<String>,
        name: &str,
    ) -> Result<&'v Spanned<T>, ConfigError> {
        value.ok_or_else(|| self.fault(key, because.span(), format!("missing, but {name} = {:?} needs it", because.get_ref())))
    }

    /// A key that one choice of another key rules out.
    pub(super) fn absent<T>(&self, key: &str, value: Option<&Spanned<T>>, why: &str) -> Result<(), ConfigError> {
        value.map_or(Ok(()), |value| Err(self.fault(key, value.span(), why.to_owned()).hint("remove it")))
    }
}

/// Whether a host name or address can only mean this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
