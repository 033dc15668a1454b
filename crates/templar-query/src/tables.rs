//! A run as tables: what its records say, as files for the programs in which people look at data.
//!
//! Everything comes from the certified records, from the entries that they name, and from the ledger that follows from
//! them. So two homes that know the same windows write the same bytes. [`TABLES.md`](../TABLES.md) lists the columns; a
//! test holds it to the schema below. Transfers have no table, because the ledger has no transfers yet.

mod evaluations;
mod money;
mod windows;
mod work;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use templar_export::tables::{TableFormat, TablesError, TablesFolder, WrittenTable};
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::evaluations::{KeptEvaluation, KeptEvaluations};
use templar_manifest::{RecordId, RunId, Score, Signed};
use templar_protocol::{ClosedWindow, RunState};

use crate::error::QueryError;

/// The list of the tables in a folder, `tables.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunTables {
    /// The run.
    pub run: RunId,
    /// The name of the run.
    pub name: String,
    /// The number of closed windows that the tables are about.
    pub windows: u64,
    /// The record of the last of them; `None` before the first.
    pub record: Option<RecordId>,
    /// The format of the files.
    pub format: TableFormat,
    /// The tables.
    pub tables: Vec<WrittenTable>,
}

/// Tables are not written.
#[derive(Debug, thiserror::Error)]
pub enum RunTablesError {
    /// The run cannot be read.
    #[error(transparent)]
    Query(Box<QueryError>),
    /// The folder cannot be written.
    #[error(transparent)]
    Tables(#[from] TablesError),
}

fn query(error: impl Into<QueryError>) -> RunTablesError {
    RunTablesError::Query(Box::new(error.into()))
}

impl RunTables {
    /// Writes the tables of a run into a new folder, which is there whole or not at all.
    ///
    /// # Errors
    /// See [`RunTablesError`].
    pub fn write(
        access: &Access,
        context: &RunContext,
        place: &Path,
        format: TableFormat,
    ) -> Result<Self, RunTablesError> {
        let folder = TablesFolder::create(place, format)?;
        let node = access.fold(context).map_err(query)?;
        let kept = KeptEvaluations::of(&access.home, context.run).read().map_err(query)?;
        let state = context.first_state().map_err(query)?;
        let tables = written(&folder, state, context.recipe.parameter_count(), node.closed(), &kept)?;
        let list = Self {
            run: context.run,
            name: context.genesis.name.clone(),
            windows: node.closed().len() as u64,
            record: node.closed().last().map(|closed| closed.record),
            format,
            tables,
        };
        folder.publish(&list)?;
        Ok(list)
    }
}

/// Writes the files. `state` is the one before the first window.
fn written(
    folder: &TablesFolder,
    mut state: RunState,
    parameters: usize,
    closed: &[ClosedWindow],
    kept: &[KeptEvaluation],
) -> Result<Vec<WrittenTable>, RunTablesError> {
    let mut windows = folder.table(windows::table())?;
    let mut contributions = folder.table(work::contributions())?;
    let mut scores = folder.table(work::scores())?;
    let mut weights = folder.table(money::weights())?;
    let mut mints = folder.table(money::mints())?;
    let mut slashes = folder.table(money::slashes())?;
    let mut balances = folder.table(money::balances())?;
    let mut evaluations = folder.table(evaluations::table())?;
    let mut checkpoints = BTreeMap::from([(state.checkpoint(), state.window())]);
    for closed in closed {
        let body = &closed.window.body;
        windows.push(&windows::WindowRow { closed, parameters })?;
        // The cut names both in the same order.
        for (signed, outcome) in closed.contributions.iter().zip(&body.outcomes) {
            contributions.push(&work::ContributionRow { signed, outcome })?;
        }
        for (signed, is_counted) in judgements(closed) {
            for row in work::score_rows(signed, is_counted) {
                scores.push(&row)?;
            }
        }
        for weight in &body.weights {
            weights.push(&(body.window, *weight))?;
        }
        for mint in &body.mints {
            mints.push(&(body.window, *mint))?;
        }
        for slash in &body.slashes {
            slashes.push(&(body.window, *slash))?;
        }
        state.advance(closed).map_err(|_| query(QueryError::Unfoldable(body.window)))?;
        checkpoints.insert(state.checkpoint(), state.window());
        for row in money::balance_rows(body.window, &state) {
            balances.push(&row)?;
        }
    }
    for row in kept.iter().flat_map(|kept| evaluations::rows(kept, &checkpoints)) {
        evaluations.push(&row)?;
    }
    Ok(vec![
        windows.finish()?,
        contributions.finish()?,
        scores.finish()?,
        weights.finish()?,
        mints.finish()?,
        slashes.finish()?,
        balances.finish()?,
        evaluations.finish()?,
    ])
}

/// The scores that a record counts, and those of which it refutes a statement.
fn judgements(closed: &ClosedWindow) -> impl Iterator<Item = (&Signed<Score>, bool)> {
    closed.scores.iter().map(|score| (score, true)).chain(closed.refuted.iter().map(|score| (score, false)))
}

#[cfg(test)]
mod tests;
