//! How a session writes dates and intervals in text.
//!
//! Owns: `DateStyle` and `IntervalStyle` as the server reports them, and the values that say nothing in each style (`EncodeDateOnly`,
//! `EncodeDateTime` and `EncodeInterval` in src/backend/utils/adt/datetime.c). Does not own: when a report can be relied on. Binary format knows
//! no styles.

/// The part of `DateStyle` that decides what stands where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DateFormat {
    /// `2024-05-17 07:08:09+02`
    #[default]
    Iso,
    /// `05/17/2024 07:08:09 CEST`
    Sql,
    /// `17.05.2024 07:08:09 CEST`
    German,
    /// `Fri May 17 07:08:09 2024 CEST`, dates `05-17-2024`
    Postgres,
}

/// `IntervalStyle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum IntervalFormat {
    #[default]
    Postgres,
    Verbose,
    Standard,
    Iso8601,
}

/// How a session writes dates and intervals. The default is the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TextStyle {
    pub(crate) date: DateFormat,
    /// Whether the day comes before the month, where both are numbers; German always has it so.
    pub(crate) day_first: bool,
    /// Something may have changed the style since it was reported.
    pub(crate) unsettled: bool,
    interval: IntervalFormat,
}

impl TextStyle {
    /// The server reported a setting. Others than those two, and values that are none of theirs, change nothing.
    pub fn reported(&mut self, name: &str, value: &str) {
        if name.eq_ignore_ascii_case("DateStyle") {
            for part in value.split(',') {
                match part.trim().to_ascii_lowercase().as_str() {
                    "iso" => self.date = DateFormat::Iso,
                    "sql" => self.date = DateFormat::Sql,
                    "german" => self.date = DateFormat::German,
                    "postgres" => self.date = DateFormat::Postgres,
                    "dmy" => self.day_first = true,
                    "mdy" | "ymd" => self.day_first = false,
                    _ => {}
                }
            }
        } else if name.eq_ignore_ascii_case("IntervalStyle") {
            self.interval = match value {
                "postgres_verbose" => IntervalFormat::Verbose,
                "sql_standard" => IntervalFormat::Standard,
                "iso_8601" => IntervalFormat::Iso8601,
                _ => IntervalFormat::Postgres,
            };
        }
    }

    /// The same where something may have changed the style since it was reported: values are still *written* in the style the client knows of,
    /// and read only where they can be nothing else.
    #[must_use]
    pub const fn unsettled(self, unsettled: bool) -> Self {
        Self { unsettled, ..self }
    }

    /// The value of a type that says nothing, where the style makes a difference.
    pub(crate) const fn zero(self, oid: u32) -> Option<&'static str> {
        use DateFormat as F;
        Some(match (oid, self.date) {
            (1082, F::Sql) => "01/01/2000",
            (1082, F::German) => "01.01.2000",
            (1082, F::Postgres) => "01-01-2000",
            (1114, F::Sql) => "01/01/2000 00:00:00",
            (1114, F::German) => "01.01.2000 00:00:00",
            (1114, F::Postgres) if self.day_first => "Sat 01 Jan 00:00:00 2000",
            (1114, F::Postgres) => "Sat Jan 01 00:00:00 2000",
            (1184, F::Sql) => "01/01/2000 00:00:00 UTC",
            (1184, F::German) => "01.01.2000 00:00:00 UTC",
            (1184, F::Postgres) if self.day_first => "Sat 01 Jan 00:00:00 2000 UTC",
            (1184, F::Postgres) => "Sat Jan 01 00:00:00 2000 UTC",
            (1186, _) => match self.interval {
                IntervalFormat::Postgres => return None,
                IntervalFormat::Verbose => "@ 0",
                IntervalFormat::Standard => "0",
                IntervalFormat::Iso8601 => "PT0S",
            },
            _ => return None,
        })
    }

    /// A date that is written `2024-05-17`, in this style; `None` where the style is not sure.
    pub(crate) fn date(self, year: &str, month: &str, day: &str) -> Option<String> {
        let [first, second] = if self.day_first { [day, month] } else { [month, day] };
        Some(match self.date {
            DateFormat::Iso => format!("{year}-{month}-{day}"),
            DateFormat::German => format!("{day}.{month}.{year}"),
            _ if self.unsettled => return None,
            DateFormat::Sql => format!("{first}/{second}/{year}"),
            DateFormat::Postgres => format!("{first}-{second}-{year}"),
        })
    }
}

#[cfg(test)]
mod tests;
