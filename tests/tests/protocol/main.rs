//! The protocol's edges against real Postgres: start-up and logins, sizes and memory, cancelling, and every way a session ends.

mod cancel;
mod code;
mod cursors;
mod ends;
mod logins;
mod raw;
mod sizes;
