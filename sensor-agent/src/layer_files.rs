//! Baselines read from files, and the layers that they make. Not what layers mean: that is the baseline crate's. It may read
//! the files that it is given.

use anyhow::{Context as _, bail};
use sensor_baseline::{Baseline, Layer, Layers};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the collector's baseline is called among layers.
pub const FLEET_LAYER: &str = "fleet";

/// Reads a baseline; an error names file, line and column.
///
/// # Errors
/// When the file cannot be read, or is no baseline.
pub fn read_baseline(path: &Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Baseline::parse(&text).map_err(|error| {
        anyhow::anyhow!("{}:{}:{}: {}", path.display(), error.line, error.column, error.message())
    })
}

/// A layer's file as it is written on a command line: `[LAYER=]FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFile {
    /// Letters, digits and hyphens; the file's own name where none is given.
    pub name: String,
    /// The baseline.
    pub path: PathBuf,
}

impl FromStr for LayerFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        Ok(match text.split_once('=').filter(|(name, _)| is_name(name)) {
            Some((name, path)) => Self { name: name.to_owned(), path: path.into() },
            None => Self { name: text.to_owned(), path: text.into() },
        })
    }
}

/// Reads layers, the lowest first.
///
/// # Errors
/// When a file cannot be read or is no baseline, or two layers have the same name.
pub fn read_layers<'a>(files: impl IntoIterator<Item = &'a LayerFile>) -> anyhow::Result<Layers> {
    let mut layers: Vec<Layer> = Vec::new();
    for LayerFile { name, path } in files {
        if layers.iter().any(|layer| layer.name == *name) {
            bail!("{}: layer {name} is given twice", path.display());
        }
        layers.push(Layer::new(name, read_baseline(path)?));
    }
    Ok(Layers::new(layers))
}

/// The layers of files on this host, around the baseline that the collector pushes.
#[derive(Clone, Debug, Default)]
pub struct LocalLayers {
    below: Layers,
    above: Layers,
}

impl LocalLayers {
    /// Reads the files of the configuration, each a layer.
    ///
    /// # Errors
    /// When one cannot be read or is no baseline; the message names it.
    pub fn load(files: &crate::config::LayerFiles) -> anyhow::Result<Self> {
        let read = |name: &str, path: &Option<PathBuf>| -> anyhow::Result<Layers> {
            let Some(path) = path else { return Ok(Layers::default()) };
            let mut baseline = read_baseline(path).with_context(|| format!("layers.{name}"))?;
            // Findings tell the version of the collector's baseline.
            baseline.version = None;
            Ok(Layers::new(vec![Layer::new(name, baseline)]))
        };
        let above = read("host", &files.host)?.over(read("group", &files.group)?);
        Ok(Self { below: read("vendor", &files.vendor)?, above })
    }

    /// With the collector's baseline between them; `None` when there is nothing to judge by.
    #[must_use]
    pub fn around(&self, fleet: Option<Baseline>) -> Option<Layers> {
        let fleet = fleet.map(|baseline| Layers::new(vec![Layer::new(FLEET_LAYER, baseline)]));
        let layers = self.above.clone().over(fleet.unwrap_or_default()).over(self.below.clone());
        (!layers.layers().is_empty()).then_some(layers)
    }
}

#[cfg(test)]
mod tests {
    use super::{LayerFile, LocalLayers, read_layers};
    use crate::config::LayerFiles;
    use sensor_baseline::Baseline;
    use std::path::{Path, PathBuf};

    #[test]
    fn a_layer_is_named_or_called_as_its_file() {
        for (text, name, path) in [
            ("host=/etc/a.yaml", "host", "/etc/a.yaml"),
            ("a.yaml", "a.yaml", "a.yaml"),
            ("./a=b.yaml", "./a=b.yaml", "./a=b.yaml"),
            ("=x", "=x", "=x"),
        ] {
            let file: LayerFile = text.parse().unwrap();
            assert_eq!((file.name.as_str(), file.path.as_path()), (name, Path::new(path)));
        }
    }

    fn write(folder: &Path, name: &str, workload: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, format!("fleet: x\nversion: 99\nworkloads:\n  {workload}: {{}}\n")).unwrap();
        path
    }

    #[test]
    fn two_layers_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = LayerFile { name: "host".to_owned(), path: write(folder.path(), "a.yaml", "host") };
        let error = read_layers([&file, &file]).unwrap_err().to_string();
        assert!(error.ends_with("a.yaml: layer host is given twice"), "{error}");
    }

    #[test]
    fn the_collectors_baseline_stands_between_the_local_layers() {
        let folder = tempfile::tempdir().unwrap();
        let files = LayerFiles {
            vendor: Some(write(folder.path(), "v.yaml", "unit:v.service")),
            group: None,
            host: Some(write(folder.path(), "h.yaml", "unit:h.service")),
        };
        let local = LocalLayers::load(&files).unwrap();
        let names = |fleet: Option<Baseline>| -> Vec<String> {
            local.around(fleet).unwrap().layers().iter().map(|layer| layer.name.clone()).collect()
        };
        assert_eq!(names(None), ["vendor", "host"]);
        let mut fleet = Baseline::empty("web");
        fleet.version = Some(3);
        assert_eq!(names(Some(fleet.clone())), ["vendor", "fleet", "host"]);
        let layers = local.around(Some(fleet)).unwrap();
        assert_eq!(layers.version(), Some(3), "versions of local files are not the collector's");
        assert!(layers.is_armed(&sensor_baseline::Workload("unit:h.service".to_owned())));
        assert!(LocalLayers::default().around(None).is_none());
    }

    #[test]
    fn a_bad_file_is_named_with_its_key_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "h.yaml", "nothing");
        let files = LayerFiles { host: Some(path), ..LayerFiles::default() };
        let error = format!("{:#}", LocalLayers::load(&files).unwrap_err());
        assert!(
            error.starts_with("layers.host: ") && error.contains("h.yaml:4:3: expected a workload"),
            "{error}"
        );
        let files = LayerFiles { host: Some("/nowhere/h.yaml".into()), ..LayerFiles::default() };
        let error = format!("{:#}", LocalLayers::load(&files).unwrap_err());
        assert!(error.starts_with("layers.host: cannot read /nowhere/h.yaml"), "{error}");
    }
}
