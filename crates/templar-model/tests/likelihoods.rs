//! Likelihoods of asked tokens: those of the logits, and the same bits in every batch.

use templar_model::{Asked, Likelihood, StepError};

use crate::support::{HostModel, lively_params, small_spec, tokens};

#[test]
fn a_likelihood_is_that_of_the_logits() {
    let spec = small_spec(true);
    let mut model = HostModel::new(&spec).unwrap();
    let params = lively_params(&model);
    let tokens = &tokens(&spec, 1, 4)[..40];
    let logits = model.logits(&params, tokens).unwrap();
    let vocab = spec.vocab_size as usize;
    // Rows out of order, one of them twice.
    let asked = [(39, 5), (0, 3), (17, 52), (17, 0)].map(|(row, token)| Asked { row, token });
    let found = model.likelihoods(&params, tokens, tokens.len(), &asked).unwrap();
    for (asked, found) in asked.iter().zip(found) {
        let row = &logits[asked.row as usize * vocab..][..vocab];
        assert_eq!(found, Likelihood::of(row, asked.token), "row {}", asked.row);
        let sum: f64 = row.iter().map(|&logit| libm::exp(f64::from(logit))).sum();
        let expected = libm::log(sum) - f64::from(row[asked.token as usize]);
        assert!((f64::from(found.nats) - expected).abs() < 1e-5, "{found:?} {expected}");
    }
    assert!(Likelihood::of(&[1.0, 3.0, 3.0], 1).is_greedy && !Likelihood::of(&[1.0, 3.0, 3.0], 2).is_greedy);
}

#[test]
fn neighbours_fillings_and_beginnings_change_no_bit() {
    let spec = small_spec(false);
    let mut model = HostModel::new(&spec).unwrap();
    let params = lively_params(&model);
    let texts: Vec<Vec<u32>> =
        [70, 3, 66, 1, 40].iter().map(|&length| tokens(&spec, 1, 7)[..length].to_vec()).collect();
    let alone: Vec<Likelihood> = texts
        .iter()
        .map(|text| {
            let asked = Asked { row: text.len() as u32 - 1, token: 7 };
            model.likelihoods(&params, text, text.len(), &[asked]).unwrap()[0]
        })
        .collect();
    // All in one batch, filled up with a token.
    let filled: Vec<u32> = texts.iter().flat_map(|text| text.iter().copied().chain([9; 70]).take(70)).collect();
    let asked: Vec<Asked> =
        texts.iter().enumerate().map(|(at, text)| Asked { row: (at * 70 + text.len() - 1) as u32, token: 7 }).collect();
    assert_eq!(model.likelihoods(&params, &filled, 70, &asked).unwrap(), alone);
    // All are beginnings of the first.
    let asked: Vec<Asked> = texts.iter().map(|text| Asked { row: text.len() as u32 - 1, token: 7 }).collect();
    assert_eq!(model.likelihoods(&params, &texts[0], 70, &asked).unwrap(), alone);
}

#[test]
fn what_does_not_fit_is_refused() {
    let spec = small_spec(true);
    let mut model = HostModel::new(&spec).unwrap();
    let params = lively_params(&model);
    let asked = [Asked { row: 0, token: 1 }];
    let length = spec.sequence_length as usize;
    let long = vec![1; length + 1];
    for (tokens, length) in [(&long[..], length + 1), (&[][..], 0)] {
        let error = model.likelihoods(&params, tokens, length, &asked).unwrap_err();
        assert!(matches!(error, StepError::Sequence { .. }), "{error}");
    }
    let error = model.likelihoods(&params, &[1, 2, 3], 2, &asked).unwrap_err();
    assert!(matches!(error, StepError::Batch { found: 3, width: 2 }), "{error}");
    for (tokens, token) in [([1, 53], 1), ([1, 2], 53)] {
        let error = model.likelihoods(&params, &tokens, 2, &[Asked { row: 0, token }]).unwrap_err();
        assert!(matches!(error, StepError::Token { token: 53, .. }), "{error}");
    }
}
