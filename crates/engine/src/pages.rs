//! A set of page indices.

/// A bit per page, grown as needed: 16 MB for all of a 500 GiB memory, nothing for a small one.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// Adds a page.
    pub fn insert(&mut self, page: usize) {
        let word = page / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (page % 64);
    }

    /// Whether a page is in it.
    pub fn contains(&self, page: usize) -> bool {
        self.words.get(page / 64).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// Takes all pages out, ascending.
    pub fn take(&mut self) -> impl Iterator<Item = usize> + use<> {
        let words = std::mem::take(&mut self.words);
        words.into_iter().enumerate().flat_map(|(index, word)| pages(index, word))
    }

    /// All pages, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| pages(index, *word))
    }

    /// The first page that is not before `page`.
    pub fn next(&self, page: usize) -> Option<usize> {
        let word = page / 64;
        let here = self.words.get(word)? & u64::MAX << (page % 64);
        let later = self.words.iter().enumerate().skip(word + 1).map(|(index, word)| (index, *word));
        let (index, bits) = [(word, here)].into_iter().chain(later).find(|(_, bits)| *bits != 0)?;
        Some(index * 64 + bits.trailing_zeros() as usize)
    }
}

fn pages(index: usize, word: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * 64 + bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page() {
        let mut set = PageSet::default();
        assert_eq!(set.next(0), None);
        [3, 64, 1000].into_iter().for_each(|page| set.insert(page));
        let next: Vec<_> =
            [0, 3, 4, 64, 65, 1000, 1001, 1 << 30].iter().map(|page| set.next(*page)).collect();
        assert_eq!(next, [Some(3), Some(3), Some(64), Some(64), Some(1000), Some(1000), None, None]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 64, 1000]);
    }
}
