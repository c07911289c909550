//! The gateway is killed at random moments while it records to the bucket, through a network that fails now and then.

use std::time::Duration;

use anyhow::Result;
use countersign_e2e::kills;

use super::fault_proxy::{FaultProxy, Mode};
use super::{deployed, on_localstack};

#[test]
fn nothing_is_missing_in_the_bucket_after_sigkill_at_any_moment() -> Result<()> {
    on_localstack(|stack| async move {
        let (instance, deployed) = deployed(stack)?;
        let faults = FaultProxy::start(instance.address()?.to_string(), Mode::Pass).await?;
        let mut config = stack.config.clone();
        config.set("aws", "endpoint", faults.url()).set("recording", "prefix", "kills");
        let audit = stack.audit().at(&format!("s3://{}/kills", deployed.bucket));
        let troubled = async {
            for mode in [Mode::Refuse, Mode::UNAVAILABLE, Mode::Slow(Duration::from_millis(40)), Mode::Reset].iter().cycle() {
                tokio::time::sleep(Duration::from_millis(1700)).await;
                faults.set(mode.clone());
                tokio::time::sleep(Duration::from_millis(150)).await;
                faults.set(Mode::Pass);
            }
        };
        let by_hand = ["--kms-key", deployed.recording_key.as_str()];
        let outcome = tokio::select! {
            outcome = kills::series(stack, "bucket", &config, &audit, &by_hand) => outcome?,
            () = troubled => anyhow::bail!("troubles never end"),
        };
        eprintln!("{outcome:?}");
        Ok(())
    })
}
