//! A node whose device fails goes on with the CPU, to the same results, and says which device it has left.

use std::sync::Arc;

use templar_node::executor::{Executor, TrainRequest, WorkError};
use templar_testkit::{Fault, FaultyDevice};
use templar_train::Recipe;

use super::alone::{Alone, Silent, executor};

#[test]
fn a_node_whose_device_fails_goes_on_with_the_cpu_to_the_same_contribution() {
    let alone = Alone::new();
    let state = alone.replica.node().state().clone();
    let train = |executor: &Executor| executor.train(TrainRequest::honest(&state, alone.me, 3), &mut Silent, &|_| {});
    let on_cpu = executor(&alone.context, &alone.home, &alone.shelf);
    let expected = train(&on_cpu).unwrap();
    assert_eq!(on_cpu.leave_device(&WorkError::Stopped), None, "no device is the reason");
    for fault in [Fault::Lost(1), Fault::Lost(40), Fault::OutOfMemory(20), Fault::Product(30)] {
        let mut context = alone.context.clone();
        let recipe = Recipe::on(Arc::new(FaultyDevice::new(fault)), context.run, (*context.genesis).clone()).unwrap();
        context.recipe = Arc::new(Recipe { recheck_one_in: 1, ..recipe });
        let executor = executor(&context, &alone.home, &alone.shelf);
        let error = train(&executor).unwrap_err();
        assert_eq!(executor.leave_device(&error).as_deref(), Some("faulty"), "{error:?}");
        assert_eq!(executor.leave_device(&error), None, "it is left once");
        assert_eq!(train(&executor).unwrap(), expected, "{fault:?}");
    }
}
