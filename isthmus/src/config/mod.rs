mod document;
pub(crate) use document::Override;
#[derive(Debug)]
pub(crate) struct Config { pub(crate) tokens: Tokens }
#[derive(Debug)]
pub(crate) struct Tokens { pub(crate) issuer: String, pub(crate) key_id: String, pub(crate) private_key: std::path::PathBuf }
