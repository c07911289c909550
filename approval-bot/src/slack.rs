//! Slack's Web API, as far as the bot uses it. <https://docs.slack.dev/reference/methods>

mod connector;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use slack_morphism::api::{
    SlackApiChatPostEphemeralRequest, SlackApiChatPostMessageRequest, SlackApiChatUpdateRequest, SlackApiViewsOpenRequest,
};
use slack_morphism::blocks::{SlackBlock, SlackView};
use slack_morphism::errors::SlackClientError;
use slack_morphism::{
    SlackApiToken, SlackApiTokenValue, SlackChannelId, SlackClient, SlackMessageContent, SlackTriggerId, SlackTs, SlackUserId,
};

use self::connector::Connector;

/// A client for one workspace.
#[derive(Debug, Clone)]
pub struct Slack {
    client: SlackClient<Connector>,
    token: SlackApiToken,
    http: reqwest::Client,
    origin: String,
}

/// Why Slack did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlackError {
    /// Slack answered with an error code.
    #[error("slack {method}: {code}")]
    Refused {
        /// Method.
        method: &'static str,
        /// Slack's code, such as `channel_not_found`.
        code: String,
    },
    /// Slack asks to be left alone for longer than the bot waits.
    #[error("slack {method}: rate limited")]
    RateLimited {
        /// Method.
        method: &'static str,
    },
    /// No answer, or none that can be read.
    #[error("slack {method}: {why}")]
    Unreachable {
        /// Method.
        method: &'static str,
        /// Why, without bodies or tokens.
        why: String,
    },
    /// The client cannot be built.
    #[error("slack client: {0}")]
    Setup(String),
}

impl SlackError {
    /// Slack's code, when Slack answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// A message that was posted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Posted {
    /// Channel id.
    pub channel: String,
    /// Timestamp, which identifies the message in the channel.
    pub ts: String,
}

/// A message to post: blocks, and the text of notifications.
#[derive(Debug, Clone)]
pub struct Message {
    /// Fallback, in Slack's markup.
    pub text: String,
    /// Blocks.
    pub blocks: Vec<SlackBlock>,
}

/// What Slack knows of a user.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserInfo {
    /// Deactivated.
    #[serde(default)]
    pub deleted: bool,
    /// A bot.
    #[serde(default)]
    pub is_bot: bool,
    /// A guest.
    #[serde(default)]
    pub is_restricted: bool,
    /// A guest of one channel.
    #[serde(default)]
    pub is_ultra_restricted: bool,
    /// From another workspace.
    #[serde(default)]
    pub is_stranger: bool,
    /// Whether the person confirmed the address.
    #[serde(default)]
    pub is_email_confirmed: Option<bool>,
    /// The workspace that keeps the profile.
    #[serde(default)]
    pub team_id: Option<String>,
    /// Profile.
    #[serde(default)]
    pub profile: UserProfile,
}

/// The part of a profile that matters.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct UserProfile {
    /// Address.
    #[serde(default)]
    pub email: Option<String>,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
struct MembersAnswer {
    users: Vec<String>,
}

#[derive(Deserialize)]
struct UserAnswer {
    user: UserInfo,
}

/// What goes to a `response_url`. <https://docs.slack.dev/interactivity/handling-user-interaction>
#[derive(Serialize)]
struct Response<'a> {
    response_type: &'static str,
    replace_original: bool,
    text: &'a str,
}

impl Slack {
    /// A client for the API at this URL.
    ///
    /// # Errors
    /// When the URL is none, or TLS cannot be set up.
    pub fn new(api_url: &str, token: &str) -> Result<Self, SlackError> {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .connect_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("countersign-bot/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SlackError::Setup(error.to_string()))?;
        let base = reqwest::Url::parse(api_url).map_err(|error| SlackError::Setup(format!("SLACK_API_URL: {error}")))?;
        let origin = base.origin().ascii_serialization();
        let connector = Connector::new(http.clone(), api_url.trim_end_matches('/').to_owned());
        let token = SlackApiToken::new(SlackApiTokenValue(token.to_owned()));
        Ok(Self { client: SlackClient::new(connector), token, http, origin })
    }

    /// `chat.postMessage`
    ///
    /// # Errors
    /// When Slack does not take it.
    pub async fn post(&self, channel: &str, message: &Message) -> Result<Posted, SlackError> {
        let request = SlackApiChatPostMessageRequest::new(SlackChannelId(channel.to_owned()), content(message))
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        self.call("chat.postMessage", &request).await
    }

    /// `chat.postMessage` as an answer in a message's thread.
    ///
    /// # Errors
    /// When Slack does not take it.
    pub async fn reply(&self, at: &Posted, message: &Message) -> Result<(), SlackError> {
        let request = SlackApiChatPostMessageRequest::new(SlackChannelId(at.channel.clone()), content(message))
            .with_thread_ts(SlackTs(at.ts.clone()))
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        self.call::<_, Nothing>("chat.postMessage", &request).await.map(|_| ())
    }

    /// `chat.update`
    ///
    /// # Errors
    /// When Slack does not take it.
    pub async fn update(&self, at: &Posted, message: &Message) -> Result<(), SlackError> {
        let request = SlackApiChatUpdateRequest::new(SlackChannelId(at.channel.clone()), content(message), SlackTs(at.ts.clone()));
        self.call::<_, Nothing>("chat.update", &request).await.map(|_| ())
    }

    /// `chat.postEphemeral`
    ///
    /// # Errors
    /// When Slack does not take it.
    pub async fn whisper(&self, channel: &str, user: &str, text: &str) -> Result<(), SlackError> {
        let content = SlackMessageContent::new().with_text(text.to_owned());
        let request = SlackApiChatPostEphemeralRequest::new(SlackChannelId(channel.to_owned()), SlackUserId(user.to_owned()), content);
        self.call::<_, Nothing>("chat.postEphemeral", &request).await.map(|_| ())
    }

    /// `views.open`
    ///
    /// # Errors
    /// When Slack does not take it, for one because the trigger is older than three seconds.
    pub async fn open(&self, trigger: &str, view: SlackView) -> Result<(), SlackError> {
        let request = SlackApiViewsOpenRequest::new(SlackTriggerId(trigger.to_owned()), view);
        self.call::<_, Nothing>("views.open", &request).await.map(|_| ())
    }

    /// `users.info`
    ///
    /// # Errors
    /// When Slack does not say.
    pub async fn user(&self, user: &str) -> Result<UserInfo, SlackError> {
        let session = self.client.open_session(&self.token);
        let answer: Result<UserAnswer, _> =
            session.http_session_api.http_get("users.info", &vec![("user", Some(&user.to_owned()))], None).await;
        answer.map(|answer| answer.user).map_err(|error| plain("users.info", error))
    }

    /// `usergroups.users.list`: ids of the members of a user group that is not disabled.
    ///
    /// # Errors
    /// When Slack does not say, for one because the group is unknown or disabled, or the app has no scope `usergroups:read`.
    pub async fn usergroup_members(&self, id: &str) -> Result<Vec<String>, SlackError> {
        let session = self.client.open_session(&self.token);
        let query = vec![("usergroup", Some(id.to_owned())), ("include_disabled", Some("false".to_owned()))];
        let answer: Result<MembersAnswer, _> = session.http_session_api.http_get("usergroups.users.list", &query, None).await;
        answer.map(|answer| answer.users).map_err(|error| plain("usergroups.users.list", error))
    }

    /// Answers the presser, through the press's own URL or else by `chat.postEphemeral`.
    pub async fn answer(&self, response_url: Option<&str>, channel: Option<&str>, user: &str, text: &str) {
        if let Some(url) = response_url.filter(|url| self.is_slacks(url)) {
            let response = Response { response_type: "ephemeral", replace_original: false, text };
            match self.http.post(url).json(&response).timeout(Duration::from_secs(2)).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => tracing::warn!(http.status = answer.status().as_u16(), "response_url did not take the answer"),
                Err(error) => tracing::warn!(error = %error.without_url(), "response_url did not take the answer"),
            }
        }
        if let Some(channel) = channel
            && let Err(error) = self.whisper(channel, user, text).await
        {
            tracing::warn!(%error, "the presser could not be answered");
        }
    }

    /// A `response_url` is followed to Slack only, or to wherever the API is.
    fn is_slacks(&self, url: &str) -> bool {
        reqwest::Url::parse(url).is_ok_and(|url| {
            let origin = url.origin().ascii_serialization();
            origin == "https://hooks.slack.com" || origin == self.origin
        })
    }

    async fn call<Q, A>(&self, method: &'static str, request: &Q) -> Result<A, SlackError>
    where
        Q: Serialize + Send + Sync,
        A: for<'de> Deserialize<'de> + Send,
    {
        let session = self.client.open_session(&self.token);
        session.http_session_api.http_post(method, request, None).await.map_err(|error| plain(method, error))
    }
}

fn content(message: &Message) -> SlackMessageContent {
    SlackMessageContent::new().with_text(message.text.clone()).with_blocks(message.blocks.clone())
}

/// The library's errors print whole bodies; ours do not.
fn plain(method: &'static str, error: SlackClientError) -> SlackError {
    match error {
        SlackClientError::ApiError(error) => SlackError::Refused { method, code: error.code },
        SlackClientError::RateLimitError(_) => SlackError::RateLimited { method },
        SlackClientError::HttpError(error) => SlackError::Unreachable { method, why: format!("HTTP status {}", error.status_code) },
        SlackClientError::HttpProtocolError(error) => {
            SlackError::Unreachable { method, why: error.cause.map_or_else(|| "no answer".to_owned(), |cause| cause.to_string()) }
        }
        SlackClientError::ProtocolError(error) => {
            SlackError::Unreachable { method, why: format!("answer is not what the method gives: {}", error.json_error) }
        }
        _ => SlackError::Unreachable { method, why: "no answer".to_owned() },
    }
}
