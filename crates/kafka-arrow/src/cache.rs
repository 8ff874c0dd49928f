//! A cache of bounded size.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A map with a fixed maximum of entries. When it is full, a new entry replaces the least recently used one.
#[derive(Debug)]
pub struct BoundedCache<K, V> {
    most: usize,
    entries: HashMap<K, Entry<V>>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    /// The number of its last use.
    used: u64,
}

impl<K: Hash + Eq + Clone, V> BoundedCache<K, V> {
    /// An empty cache of `most` entries.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            entries: HashMap::new(),
            uses: 0,
        }
    }

    /// The value of a key. This counts as a use.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.uses += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.uses;
        Some(&entry.value)
    }

    /// The value of a key; `make` makes it if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &V {
        if !self.entries.contains_key(&key) {
            self.make_room();
        }
        self.uses += 1;
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            value: make(),
            used: 0,
        });
        entry.used = self.uses;
        &entry.value
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.get_or_insert_with(key, || value);
    }

    /// Forgets a key.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.entries.remove(key);
    }

    /// Looks at all entries. That is rare, and cheap compared with making a value.
    fn make_room(&mut self) {
        while self.entries.len() >= self.most.max(1) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_that_was_not_used_for_longest_goes_first() {
        let mut cache = BoundedCache::new(3);
        for key in ["a", "b", "c"] {
            cache.insert(key, key.len());
        }
        assert_eq!(cache.get("a"), Some(&1));
        cache.insert("d", 4);
        assert_eq!(cache.get("b"), None);
        cache.insert("a", 5);
        cache.insert("e", 6);
        let left = ["a", "b", "c", "d", "e"].map(|key| cache.get(key).copied());
        assert_eq!(left, [Some(5), None, None, Some(4), Some(6)]);
    }

    #[test]
    fn a_value_is_made_once_as_long_as_it_is_kept() {
        let mut cache = BoundedCache::new(2);
        let made = |cache: &mut BoundedCache<i32, i32>, key| {
            let mut made = false;
            cache.get_or_insert_with(key, || {
                made = true;
                key
            });
            made
        };
        let seen = [1, 2, 1, 3, 1, 2].map(|key| made(&mut cache, key));
        assert_eq!(seen, [true, true, false, true, false, true]);
        cache.remove(&1);
        assert!(made(&mut cache, 1));
    }

    #[test]
    fn it_never_holds_more_than_it_may() {
        let mut cache = BoundedCache::new(100);
        for key in 0..10_000 {
            cache.insert(key, ());
            cache.get(&0);
            assert!(cache.entries.len() <= 100);
        }
        assert!(cache.get(&0).is_some(), "it was used all the time");
        let mut one = BoundedCache::new(0);
        one.insert(1, ());
        assert!(one.get(&1).is_some());
    }
}
