defmodule Koma.ProvenanceTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Koma.{JSON, Options, Provenance}

  @picture %{"image.generate" => %{outputs: %{"image" => "image/png"}}}
  @text %{"video.understand" => %{outputs: %{"text" => "text/plain"}}}
  @toy %{name: "toy", family: "toy", checkpoint: "toy"}

  defp options(given), do: Options.new!([models: [@toy]] ++ given)

  test "outputs are marked in both ways unless the operator says otherwise" do
    assert Provenance.off(options([])) == []
    told = Provenance.told(@picture, options([]))
    assert told == %{"invisible" => true, "signed" => true}
    assert Provenance.told(@text, options([])) == nil
  end

  test "a model node is told which marks, and where the keys lie" do
    assert [{_name, text}] = Provenance.environment(options(data_dir: "/data", marks: [:signed]))
    assert {:ok, settings} = JSON.decode(text)
    assert %{"folder" => "/data/provenance", "invisible" => false, "signed" => true} = settings

    own = options(provenance_dir: "/keys", sign_chain: "/c.pem", sign_key: "/k.pem")
    assert [{_name, text}] = Provenance.environment(own)
    assert {:ok, settings} = JSON.decode(text)
    assert %{"folder" => "/keys", "chain" => "/c.pem", "key" => "/k.pem"} = settings
  end

  test "what is off is in the log of every start" do
    assert capture_log(fn -> Provenance.warn(options(marks: [:signed])) end) =~
             "Marks are off: invisible"

    assert capture_log(fn -> Provenance.warn(options([])) end) == ""
  end

  test "results with other marks are never taken for equal; texts are" do
    policies =
      for marks <- [[], [:signed], [:invisible, :signed]],
          do: Provenance.policy(@picture, options(marks: marks))

    with_prompts = Provenance.policy(@picture, options(marks_prompts: true))
    assert length(Enum.uniq([with_prompts | policies])) == 4
    assert Provenance.policy(@text, options(marks: [])) == Provenance.policy(@text, options([]))
  end

  test "an unknown mark is refused by name" do
    assert {:error, message} = Options.new(marks: [:visible])
    assert message =~ ":visible is not invisible or signed"
  end
end
