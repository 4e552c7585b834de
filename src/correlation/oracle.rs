//! Correlation and baseline computed from their definitions in f64. Slow and obvious: tests compare
//! the fast code with these functions.

/// Returns Pearson's ρ of two series; NaN if either never varies.
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let cov: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let square = |v: &[f64], mean: f64| -> f64 { v.iter().map(|v| (v - mean).powi(2)).sum() };
    cov / (square(x, mean_x) * square(y, mean_y)).sqrt()
}

/// Returns the activations of neuron `i`, one value per token, from `[tokens, n_neurons]`.
pub fn series(activations: &[f32], n_neurons: usize, i: usize) -> Vec<f64> {
    activations.iter().skip(i).step_by(n_neurons).map(|&v| f64::from(v)).collect()
}

/// Returns R V for one layer. `v` holds one series per neuron; `r` is `[d, d]`, row-major.
pub fn rotate(r: &[f32], v: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let combine = |row: &[f32]| -> Vec<f64> {
        let at = |t: usize| row.iter().zip(v).map(|(&r, v)| f64::from(r) * v[t]).sum();
        (0..v[0].len()).map(at).collect()
    };
    r.chunks_exact(v.len()).map(combine).collect()
}

/// Returns the linear CKA of two layers, each given as one series per neuron, from the similarities
/// of tokens: the cosine of the angle between the centred matrices `X Xᵀ` and `Y Yᵀ`.
pub fn cka(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    let similarities = |layer: &[Vec<f64>]| -> Vec<f64> {
        let centred = |series: &Vec<f64>| -> Vec<f64> {
            let mean = series.iter().sum::<f64>() / series.len() as f64;
            series.iter().map(|v| v - mean).collect()
        };
        let layer: Vec<Vec<f64>> = layer.iter().map(centred).collect();
        let tokens = layer[0].len();
        let of = |e: usize| layer.iter().map(|v| v[e / tokens] * v[e % tokens]).sum();
        (0..tokens * tokens).map(of).collect()
    };
    let (x, y) = (similarities(x), similarities(y));
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt()
}
