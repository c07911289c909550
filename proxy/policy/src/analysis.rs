//! stub
#[derive(Debug, Clone)]
pub(crate) struct ViewColumn {}
