//! Judgements kept by text: by its fingerprint where it has one, by its exact bytes otherwise. Bounded; whatever a judgement depends on besides the text
//! is the caller's to watch, by [`TextCache::clear`].

use std::collections::HashMap;

use crate::fingerprint;

/// Longest text that is kept.
const LONGEST: usize = 16 * 1024;
/// Texts, and fingerprints, that are kept.
const MOST: usize = 512;

/// What is known of texts.
#[derive(Debug)]
pub struct TextCache<T> {
    texts: HashMap<Vec<u8>, T>,
    shapes: HashMap<Vec<u8>, T>,
    /// The fingerprint of the text last looked for.
    shape: Vec<u8>,
    has_shape: bool,
}

impl<T> Default for TextCache<T> {
    fn default() -> Self {
        Self { texts: HashMap::new(), shapes: HashMap::new(), shape: Vec::new(), has_shape: false }
    }
}

impl<T: Clone> TextCache<T> {
    /// What was kept of this text, or of one that differs only in literals that no judgement looks at.
    pub fn find(&mut self, text: &[u8]) -> Option<&T> {
        self.has_shape = text.len() <= LONGEST && fingerprint(text, &mut self.shape);
        let by_shape = if self.has_shape { self.shapes.get(self.shape.as_slice()) } else { None };
        by_shape.or_else(|| self.texts.get(text))
    }

    /// Keeps what is known of the text that [`TextCache::find`] was last asked for. `shared`: it may serve all texts with this fingerprint.
    pub fn keep(&mut self, text: &[u8], shared: bool, value: &T) {
        if text.len() > LONGEST {
            return;
        }
        let (map, key) = if self.has_shape && shared { (&mut self.shapes, self.shape.as_slice()) } else { (&mut self.texts, text) };
        if map.len() >= MOST {
            map.clear();
        }
        map.insert(key.to_vec(), value.clone());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.shapes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_share_what_may_be_shared() {
        let mut cache = TextCache::default();
        assert_eq!(cache.find(b"select a from t where b = 1"), None);
        cache.keep(b"select a from t where b = 1", true, &"allowed");
        assert_eq!(cache.find(b"select a from t where b = 2"), Some(&"allowed"));
        assert_eq!(cache.find(b"select a from t where b = 'x'"), None);
        cache.keep(b"select a from t where b = 'x'", false, &"held");
        assert_eq!(cache.find(b"select a from t where b = 'x'"), Some(&"held"));
        assert_eq!(cache.find(b"select a from t where b = 'y'"), None);
        cache.clear();
        assert_eq!(cache.find(b"select a from t where b = 2"), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut cache = TextCache::default();
        for n in 0..10 * MOST {
            let text = format!("select a{n} from t where b = 1; ");
            let _ = cache.find(text.as_bytes());
            cache.keep(text.as_bytes(), n % 2 == 0, &n);
            assert!(cache.texts.len() <= MOST && cache.shapes.len() <= MOST);
        }
        let long = vec![b' '; LONGEST + 1];
        let _ = cache.find(&long);
        cache.keep(&long, false, &0);
        assert_eq!(cache.find(&long), None);
    }
}
