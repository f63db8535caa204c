//! The page that says how far a fleet has been learned. What that means is decided in `sensor-baseline`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sensor_baseline::{Dimension, State as Stage};
use serde_json::{Value, json};

use crate::clock;
use crate::collector::Collector;
use crate::fleet::maturity::dimensions;
use crate::http::error::ApiError;
use crate::http::extract::Segment;

pub(super) async fn maturity(
    State(collector): State<Arc<Collector>>,
    Segment(fleet): Segment,
) -> Result<Json<Value>, ApiError> {
    let name = fleet.clone();
    let dimensions =
        collector.store.read(move |connection| dimensions(connection, &name, clock::now())).await?;
    let dimensions: Vec<Value> = dimensions.iter().map(as_json).collect();
    Ok(Json(json!({ "fleet": fleet, "dimensions": dimensions })))
}

fn as_json(dimension: &Dimension) -> Value {
    let lacks: Vec<String> = match &dimension.state {
        Stage::Learning(lacks) => lacks.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let time = |time: sensor_baseline::UnixNs| {
        (dimension.entries > 0).then(|| clock::UnixNs::from_column(time.0.cast_signed()).rfc3339())
    };
    json!({
        "workload": dimension.workload.0,
        "action": dimension.action.name(),
        "state": dimension.state.name(),
        "lacks": lacks,
        "entries": dimension.entries,
        "entries_once": dimension.entries_once,
        "observations": dimension.seen.count,
        "first_seen_at": time(dimension.seen.first),
        "last_seen_at": time(dimension.seen.last),
        "newest_at": time(dimension.newest),
        "new_per_day": dimension.new_per_day,
        "withheld": dimension.withheld,
    })
}
