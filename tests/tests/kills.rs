//! I3, No effect and no disclosure before its record is durable: the gateway is killed at random moments, and nothing that happened is missing.

use anyhow::Result;
use countersign_e2e::kills;
use countersign_e2e::scenario::on_shared;

#[test]
fn nothing_is_missing_after_sigkill_at_any_moment() -> Result<()> {
    on_shared(|stack| async move {
        // Recordings of their own: the stack's proxy must not seal what the next round is to seal.
        let recordings = stack.dir().join("kills");
        std::fs::create_dir_all(&recordings)?;
        let mut config = stack.config.clone();
        config.set("recording", "path", recordings.display().to_string());
        let key = stack.recording_key.private.display().to_string();
        let outcome = kills::series(stack, "directory", &config, &stack.audit().over(&recordings), &["--signing-key", &key]).await?;
        eprintln!("{outcome:?}");
        Ok(())
    })
}
