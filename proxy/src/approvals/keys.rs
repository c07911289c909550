//! Public keys for decisions, from PEM files and from KMS.

use std::path::PathBuf;

use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use countersign_approval::VerifyingKeys;

use super::{ApprovalsConfig, StartError};
use countersign_aws_error as aws_error;

/// All keys a configuration names, at least one.
pub(super) async fn all(config: &ApprovalsConfig, aws: Option<&aws_config::SdkConfig>) -> Result<VerifyingKeys, StartError> {
    let mut keys = VerifyingKeys::default();
    from_files(&mut keys, &config.keys).await?;
    if !config.kms_keys.is_empty() {
        let needed = || StartError::Setting("kms_keys needs AWS: configure [aws] or the SDK's environment".to_owned());
        from_kms(&mut keys, &aws_sdk_kms::Client::new(aws.ok_or_else(needed)?), &config.kms_keys).await?;
    }
    if keys.is_empty() {
        return Err(StartError::Setting("no key to verify decisions with: name the bot's public key in keys or kms_keys".to_owned()));
    }
    Ok(keys)
}

/// Adds the keys of SPKI PEM files.
async fn from_files(keys: &mut VerifyingKeys, paths: &[PathBuf]) -> Result<(), StartError> {
    for path in paths {
        let fault = |why: String| StartError::Key { key: path.display().to_string(), why };
        let pem = tokio::fs::read_to_string(path).await.map_err(|error| fault(error.to_string()))?;
        keys.add_pem(&pem).map_err(|error| fault(error.to_string()))?;
    }
    Ok(())
}

/// Adds the public halves of KMS keys.
async fn from_kms(keys: &mut VerifyingKeys, kms: &aws_sdk_kms::Client, ids: &[String]) -> Result<(), StartError> {
    for id in ids {
        let fault = |why: String| StartError::Key { key: id.clone(), why };
        let answer = kms
            .get_public_key()
            .key_id(id)
            .send()
            .await
            .map_err(|error| fault(format!("kms:GetPublicKey failed: {} (hint: kms_keys must name the enabled key decisions are signed with, and the task's role may use it for kms:GetPublicKey)", aws_error::line(&error))))?;
        if answer.key_usage() != Some(&KeyUsageType::SignVerify) || answer.key_spec() != Some(&KeySpec::EccNistP256) {
            return Err(fault("is not a SIGN_VERIFY key of spec ECC_NIST_P256".to_owned()));
        }
        let der = answer.public_key().ok_or_else(|| fault("KMS returned no public key".to_owned()))?;
        keys.add_der(der.as_ref()).map_err(|error| fault(error.to_string()))?;
    }
    Ok(())
}
