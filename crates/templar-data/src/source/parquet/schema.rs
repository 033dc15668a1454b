//! The column of a parquet file that is wanted, and a schema in which it can be read.

use std::ops::Range;
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use ::parquet::errors::ParquetError;
use ::parquet::schema::types::{SchemaDescriptor, Type, TypePtr};

use crate::source::fault::FileFault;
use crate::source::json::LISTED;

/// A column of a file.
pub(super) struct Wanted {
    root: TypePtr,
    /// The position of the field at each level, from the root down to the column.
    steps: Vec<usize>,
    /// The leaves of the column, counted over the file.
    leaves: Range<usize>,
    is_list: bool,
}

/// Finds a column by its path. A dot leads into a struct, and a name that has a dot itself is taken first.
pub(super) fn find(schema: &SchemaDescriptor, path: &str) -> Result<Wanted, FileFault> {
    let root = schema.root_schema_ptr();
    let mut steps = Vec::new();
    if let Some((column, before)) = walk(&root, path, &mut steps) {
        let leaves = before..before + leaf_count(&column);
        let is_list = is_list(&column);
        if is_text(&column) || is_list {
            if has_twin(&root, &steps) {
                return Err(FileFault::SeveralColumns { column: path.to_owned() });
            }
            return Ok(Wanted { root, steps, leaves, is_list });
        }
    }
    let mut columns = Vec::new();
    list("", &root, &mut columns);
    Err(FileFault::NoColumn { column: path.to_owned(), columns })
}

/// Follows the path below a group. Returns the column and the number of leaves before it.
fn walk(group: &TypePtr, path: &str, steps: &mut Vec<usize>) -> Option<(TypePtr, usize)> {
    let fields = group.get_fields();
    // The longest name first.
    let mut ways: Vec<usize> = (0..fields.len()).filter(|&field| leads(fields[field].name(), path)).collect();
    ways.sort_by_key(|&field| std::cmp::Reverse(fields[field].name().len()));
    for way in ways {
        let field = &fields[way];
        let before: usize = fields[..way].iter().map(leaf_count).sum();
        steps.push(way);
        if field.name() == path {
            return Some((field.clone(), before));
        }
        if is_struct(field)
            && let Some((column, below)) = walk(field, &path[field.name().len() + 1..], steps)
        {
            return Some((column, before + below));
        }
        steps.pop();
    }
    None
}

/// Whether a field on the way has the name of another one beside it.
fn has_twin(group: &TypePtr, steps: &[usize]) -> bool {
    let Some((step, below)) = steps.split_first() else { return false };
    let fields = group.get_fields();
    let Some(field) = fields.get(*step) else { return false };
    let is_twin = fields.iter().filter(|other| other.name() == field.name()).count() > 1;
    is_twin || !below.is_empty() && has_twin(field, below)
}

fn leads(name: &str, path: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn leaf_count(field: &TypePtr) -> usize {
    if field.is_primitive() { 1 } else { field.get_fields().iter().map(leaf_count).sum() }
}

fn repetition(field: &Type) -> Repetition {
    let info = field.get_basic_info();
    if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED }
}

fn is_struct(field: &Type) -> bool {
    field.is_group()
        && repetition(field) != Repetition::REPEATED
        && field.get_basic_info().converted_type() == ConvertedType::NONE
}

fn is_list(field: &Type) -> bool {
    field.is_group()
        && (field.get_basic_info().converted_type() == ConvertedType::LIST || repetition(field) == Repetition::REPEATED)
}

/// Whether a leaf holds text: strings, and bytes without another meaning.
fn is_text(field: &Type) -> bool {
    if !field.is_primitive() || repetition(field) == Repetition::REPEATED {
        return false;
    }
    let physical = matches!(field.get_physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
    let info = field.get_basic_info();
    let logical = match info.logical_type_ref() {
        None => matches!(
            info.converted_type(),
            ConvertedType::NONE | ConvertedType::UTF8 | ConvertedType::JSON | ConvertedType::ENUM
        ),
        Some(logical) => matches!(logical, LogicalType::String | LogicalType::Json | LogicalType::Enum),
    };
    physical && logical
}

fn list(prefix: &str, group: &Type, columns: &mut Vec<String>) {
    for field in group.get_fields() {
        if columns.len() == LISTED {
            return;
        }
        let name = format!("{prefix}{}", field.name());
        if is_struct(field) && prefix.len() < 64 {
            list(&format!("{name}."), field, columns);
        } else {
            columns.push(format!("{name} ({})", kind(field)));
        }
    }
}

/// The type of a column, for people.
fn kind(field: &Type) -> String {
    if is_text(field) {
        return "text".to_owned();
    }
    if field.is_group() {
        let element = |group: &Type| group.get_fields().first().and_then(|one| one.get_fields().first().cloned());
        return match field.get_basic_info().converted_type() {
            ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => "map".to_owned(),
            _ => match element(field) {
                Some(element) if is_struct(&element) => {
                    let names: Vec<&str> = element.get_fields().iter().map(|field| field.name()).take(8).collect();
                    format!("list of {}", names.join(", "))
                }
                _ => "list".to_owned(),
            },
        };
    }
    let info = field.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(logical), _) => format!("{logical:?}").to_lowercase(),
        (None, ConvertedType::NONE) => field.get_physical_type().to_string().to_lowercase(),
        (None, converted) => converted.to_string().to_lowercase(),
    }
}

impl Wanted {
    /// The leaves to read.
    pub(super) fn leaves(&self) -> Range<usize> {
        self.leaves.clone()
    }

    /// The number of structs around the column.
    pub(super) fn depth(&self) -> usize {
        self.steps.len()
    }

    /// The leaf that has one value in each row.
    pub(super) fn flat_leaf(&self) -> Option<usize> {
        (!self.is_list).then_some(self.leaves.start)
    }

    /// The schema of the file with the same leaves in the same order. Only the column and the structs around it keep
    /// their shape. Every other leaf stands alone, and no leaf has a logical type.
    pub(super) fn plain(&self) -> Result<SchemaDescriptor, ParquetError> {
        let fields = plain_fields(&self.root, &self.steps)?;
        let root = Type::group_type_builder("schema").with_fields(fields).build()?;
        Ok(SchemaDescriptor::new(Arc::new(root)))
    }
}

fn plain_fields(group: &Type, steps: &[usize]) -> Result<Vec<TypePtr>, ParquetError> {
    let mut fields = Vec::new();
    for (index, field) in group.get_fields().iter().enumerate() {
        match steps {
            [step] if *step == index => fields.push(plain(field)?),
            [step, steps @ ..] if *step == index => {
                let inner = Type::group_type_builder(field.name())
                    .with_repetition(repetition(field))
                    .with_fields(plain_fields(field, steps)?);
                fields.push(Arc::new(inner.build()?));
            }
            _ => alone(field, &mut fields)?,
        }
    }
    Ok(fields)
}

/// The leaves of a field that is not read.
fn alone(field: &Type, fields: &mut Vec<TypePtr>) -> Result<(), ParquetError> {
    if field.is_group() {
        return field.get_fields().iter().try_for_each(|field| alone(field, fields));
    }
    let name = format!("{} {}", fields.len(), field.name());
    fields.push(Arc::new(leaf(&name, field, Repetition::REQUIRED)?));
    Ok(())
}

/// The column itself, without logical types but those that make lists and maps.
fn plain(field: &Type) -> Result<TypePtr, ParquetError> {
    let info = field.get_basic_info();
    if field.is_primitive() {
        return Ok(Arc::new(leaf(field.name(), field, repetition(field))?));
    }
    let fields: Result<Vec<TypePtr>, _> = field.get_fields().iter().map(|field| plain(field)).collect();
    let group = Type::group_type_builder(field.name()).with_repetition(repetition(field));
    Ok(Arc::new(group.with_converted_type(info.converted_type()).with_fields(fields?).build()?))
}

fn leaf(name: &str, field: &Type, repetition: Repetition) -> Result<Type, ParquetError> {
    let length = match field {
        Type::PrimitiveType { type_length, .. } => *type_length,
        Type::GroupType { .. } => -1,
    };
    Type::primitive_type_builder(name, field.get_physical_type())
        .with_repetition(repetition)
        .with_length(length)
        .build()
}
