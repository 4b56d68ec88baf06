from pipeline.report.pretext import describe_pretext


def test_figures_stand_beside_what_chance_gives(project):
    section = describe_pretext(project().write().backbone)
    assert section.method == "global_dense"
    assert [(row.name, row.value, row.chance) for row in section.rows] == [
        ("Image match", "0.81", "0.125"),
        ("Effective rank", "7.8", ""),
    ]
    assert [chart.title for chart in section.charts][:2] == ["Loss", "Global loss"]


def test_a_backbone_without_training_has_neither(project):
    section = describe_pretext(project(pretrain_method="none").write().backbone)
    assert (section.method, section.rows, section.charts) == ("none", [], [])
