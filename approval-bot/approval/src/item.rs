//! The store item: one per request. Attribute names shared by proxy and bot.
