//! Which artifact supports which control. The words of the controls are the frameworks' own titles, shortened; what an artifact shows about an
//! institution is for its auditors to say. Numbers are those of the editions in [`SOURCES`].

/// A control and what in the package supports it.
#[derive(Debug, Clone, Copy)]
pub struct Control {
    /// Framework.
    pub framework: &'static str,
    /// Its reference.
    pub reference: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What supports it.
    pub supports: &'static str,
    /// Files of the package.
    pub artifacts: &'static [&'static str],
}

const FFIEC_IS: &str = "FFIEC IT Handbook, Information Security";
const FFIEC_AIO: &str = "FFIEC IT Handbook, Architecture, Infrastructure, and Operations";
const NIST: &str = "NIST CSF 2.0";
const SOX: &str = "SOX, IT general controls";
const PCI: &str = "PCI DSS 4.0.1";

/// The edition of each framework that references and titles are taken from.
pub const SOURCES: &[(&str, &str)] = &[
    (FFIEC_IS, "FFIEC Information Technology Examination Handbook, Information Security booklet, September 2016"),
    (
        FFIEC_AIO,
        "FFIEC Information Technology Examination Handbook, Architecture, Infrastructure, and Operations booklet, June 2021; by topic, without section numbers",
    ),
    (NIST, "NIST CSWP 29, The NIST Cybersecurity Framework (CSF) 2.0, February 2024"),
    (SOX, "Sarbanes-Oxley Act of 2002, sections 404 (15 U.S.C. 7262) and 802 (18 U.S.C. 1519, 1520)"),
    (PCI, "Payment Card Industry Data Security Standard, Requirements and Testing Procedures, version 4.0.1, June 2024"),
];

impl Control {
    /// The edition its reference is of.
    #[must_use]
    pub fn source(&self) -> &'static str {
        SOURCES.iter().find(|(framework, _)| *framework == self.framework).map_or("", |(_, source)| source)
    }
}

macro_rules! controls {
    ($($framework:ident $reference:literal $title:literal: $supports:literal [$($artifact:literal),+];)+) => {
        /// The mapping.
        pub const CONTROLS: &[Control] = &[$(Control {
            framework: $framework, reference: $reference, title: $title, supports: $supports, artifacts: &[$($artifact),+],
        }),+];
    };
}

controls! {
    FFIEC_IS "II.C.7(b)" "User access program": "every session with its verified principal, groups and database" ["sessions.csv"];
    FFIEC_IS "II.C.7(c)" "Segregation of duties": "requester and reviewers of each approved statement, and who would have been both" ["separation-of-duties.csv", "roster.csv"];
    FFIEC_IS "II.C.10" "Change management within the IT environment": "changes of data and schema that were held, who decided, what ran" ["held.csv", "samples.json"];
    FFIEC_IS "II.C.13" "Control of information": "what was masked, refused or shown" ["sessions.csv", "denied.csv"];
    FFIEC_IS "II.C.15" "Logical security": "statements refused by rule" ["denied.csv", "policies.csv"];
    FFIEC_IS "II.C.18" "Database security": "statements by person, tables touched, values masked, refusals" ["sessions.csv", "denied.csv"];
    FFIEC_IS "II.C.22" "Log management": "integrity of every recording, retention by the store's own word, an attempt to delete" ["verification.json", "retention.csv", "deletion-test.json"];
    FFIEC_IS "III.C" "Incident identification and assessment": "exceptions with session and event; what ran without approval, and its reviews" ["exceptions.csv", "break-glass.csv"];
    FFIEC_IS "IV.A" "Assurance and testing": "populations and a sample that can be drawn again from its seed" ["samples.json", "package.json"];
    FFIEC_AIO "Data governance and data management" "Access to and use of data": "tables read and written in each session" ["sessions.csv"];
    FFIEC_AIO "Operations: operational controls" "Privileged operations": "held, denied and break-glass statements" ["held.csv", "denied.csv", "break-glass.csv"];
    FFIEC_AIO "Operations: ongoing monitoring" "Availability of the control itself": "times in which recordings could not be stored, events lost" ["outages.csv"];
    NIST "PR.AA-01" "Identities and credentials are managed": "issuer and subject of every session" ["sessions.csv"];
    NIST "PR.AA-05" "Permissions are managed and enforced, with least privilege and separation of duties": "rules in force, refusals, distinct reviewers" ["policies.csv", "denied.csv", "separation-of-duties.csv"];
    NIST "PR.DS-01" "Data at rest is protected": "retention and encryption are the store's; its word on each object" ["retention.csv"];
    NIST "PR.PS-04" "Log records are generated and made available": "one recording for each session" ["sessions.csv", "verification.json"];
    NIST "DE.CM-03" "Personnel activity is monitored": "statements by person and group" ["sessions.csv", "held.csv"];
    NIST "DE.AE-03" "Information is correlated": "request, approval, execution and rows of one statement in one chain" ["samples.json"];
    NIST "RS.AN-07" "Incident data is collected, its integrity and provenance preserved": "hash chains, signatures, digests" ["verification.json"];
    SOX "Section 404: access to programs and data" "Access is authorised and reviewed": "sessions, refusals, roster of reviewers" ["sessions.csv", "denied.csv", "roster.csv"];
    SOX "Section 404: program changes" "Direct changes of data are approved by somebody else": "population of held statements, sample with its chain" ["held.csv", "samples.json", "separation-of-duties.csv"];
    SOX "Section 802" "Records are not altered or destroyed": "verification, retention, the failed deletion" ["verification.json", "retention.csv", "deletion-test.json"];
    PCI "3.4.1" "PAN is masked when displayed": "masked values by session" ["sessions.csv"];
    PCI "7.2.1, 7.2.2" "Access control model; access by job function": "rules by group, decisions taken by them" ["policies.csv", "denied.csv"];
    PCI "7.2.6" "Access to query repositories of cardholder data is restricted": "statements refused or held" ["denied.csv", "held.csv"];
    PCI "8.2.1" "Unique user identification": "subject and claims of each session" ["sessions.csv"];
    PCI "10.2.1, 10.2.2" "Audit logs record access and administrative actions with their details": "sessions and what was recorded of them" ["sessions.csv", "samples.json"];
    PCI "10.3.2, 10.3.4" "Audit logs are protected from change, and change is detected": "verification, retention" ["verification.json", "retention.csv", "deletion-test.json"];
    PCI "10.4.1" "Audit logs are reviewed": "exceptions, to be reviewed" ["exceptions.csv"];
    PCI "10.5.1" "Audit log history is retained": "earliest end of retention of each session" ["retention.csv"];
    PCI "10.7.2" "Failures of critical security controls are detected": "recorder outages" ["outages.csv"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_says_where_its_number_is_from() {
        for control in CONTROLS {
            assert!(!control.source().is_empty(), "{} {}", control.framework, control.reference);
        }
    }
}
