//! Errors of the AWS SDK in one line that an operator can read: the service's own code and words, or why it was not reached. The SDK's
//! `DisplayErrorContext` adds whole responses in debug form.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// The error in one line.
#[must_use]
pub fn line<E, R>(error: &SdkError<E, R>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(refused) => service(refused.err()),
        other => chain(other),
    }
}

/// An error the service answered with.
#[must_use]
pub fn service<E: std::error::Error + ProvideErrorMetadata + 'static>(error: &E) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => chain(error),
    }
}

/// An error and its causes, each once.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
