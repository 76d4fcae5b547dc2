use super::*;

fn source(text: String) -> Source {
    Source {
        name: "x.yaml".into(),
        text,
    }
}

fn assignment(i: usize) -> String {
    format!(
        "---\napiVersion: shaper.amahdha.com/v1alpha1\nkind: Assignment\nmetadata:\n  name: a{i}\nspec:\n  subjectSelectors:\n    serialNumbers: [S{i}]\n"
    )
}

#[test]
fn pieces_are_whole_documents_with_their_line_numbers() {
    let text: String = (0..10_000).map(assignment).collect();
    let source = source(text + &assignment(5).replace("name: a5", "nam: a5"));
    let pieces = split(0, &source);
    assert!(pieces.len() > 3, "{}", pieces.len());
    assert_eq!(
        pieces.iter().map(|piece| piece.text).collect::<String>(),
        source.text
    );
    for piece in &pieces[1..] {
        assert!(piece.text.starts_with("---\n"));
        assert_eq!(source.text.lines().nth(piece.above), Some("---"));
    }
    let batch = Batch::of(vec![source]);
    assert_eq!(batch.catalog.assignment_count(), 10_000);
    let faults: Vec<_> = batch
        .faults
        .iter()
        .map(|(_, fault)| (fault.line(), fault.rule.id))
        .collect();
    assert_eq!(faults, [(Some(80_005), "schema")]);
}

#[test]
fn a_file_with_directives_is_one_piece() {
    let text: String = (0..10_000).map(assignment).collect();
    assert_eq!(split(0, &source(format!("%YAML 1.2\n{text}"))).len(), 1);
}
