//! Selects few cells in which every pair of two dimensions' values occurs.

use std::collections::BTreeSet;

/// Two values of two dimensions: (dimension, value) twice.
type Pair = (usize, usize, usize, usize);

/// Cells that cover all pairs of values that occur in any possible cell. Each is an index into every
/// dimension. The choice is greedy and depends on `seed`. `cells` are all possible cells.
pub(crate) fn pairs(cells: &[Vec<usize>], seed: u64) -> Vec<Vec<usize>> {
    let mut open: BTreeSet<Pair> = cells.iter().flat_map(|cell| of(cell)).collect();
    let mut order: Vec<usize> = (0..cells.len()).collect();
    shuffle(&mut order, seed);
    let mut chosen = vec![];
    while let Some(pair) = open.first().copied() {
        // Of the next cells with this pair, the one that covers the most open pairs.
        let (a, x, b, y) = pair;
        let having = order
            .iter()
            .filter(|cell| cells[**cell][a] == x && cells[**cell][b] == y);
        let best = having.take(200).max_by_key(|cell| {
            let fresh = of(&cells[**cell]);
            fresh.iter().filter(|pair| open.contains(pair)).count()
        });
        let Some(best) = best else {
            open.remove(&pair);
            continue;
        };
        for pair in of(&cells[*best]) {
            open.remove(&pair);
        }
        chosen.push(cells[*best].clone());
    }
    chosen
}

fn of(cell: &[usize]) -> Vec<Pair> {
    let mut pairs = vec![];
    for a in 0..cell.len() {
        for b in a + 1..cell.len() {
            pairs.push((a, cell[a], b, cell[b]));
        }
    }
    pairs
}

fn shuffle(order: &mut [usize], seed: u64) {
    // Knuth's multiplier is good enough to shuffle an order.
    let mut state = seed;
    for last in (1..order.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = (state >> 33) as usize % (last + 1);
        order.swap(last, at);
    }
}

#[test]
fn few_cells_have_every_pair() {
    let mut cells = vec![];
    for a in 0..5 {
        for b in 0..4 {
            for c in 0..3 {
                // Not all cells are possible.
                if (a, b) != (4, 3) {
                    cells.push(vec![a, b, c]);
                }
            }
        }
    }
    let chosen = pairs(&cells, 1);
    assert!(chosen.len() < 25, "{}", chosen.len());
    for cell in &cells {
        for (x, y) in [(0, 1), (0, 2), (1, 2)] {
            let has = |c: &Vec<usize>| c[x] == cell[x] && c[y] == cell[y];
            assert!(chosen.iter().any(has), "{cell:?}");
        }
    }
    assert_eq!(pairs(&cells, 1), chosen);
}
