defmodule Koma.Provenance.VerdictTest do
  use ExUnit.Case, async: true

  alias Koma.Provenance.Verdict

  @nothing %{"exact" => false, "by_mark" => false, "yours" => []}
  @unmarked %{"found" => false}
  @marked %{"found" => true}
  @unsigned %{"present" => false}

  defp verdict(c2pa, watermark, log \\ @nothing) do
    Verdict.of(%{"c2pa" => c2pa, "watermark" => watermark}, log)
  end

  test "each layer alone shows that something was made here" do
    for {c2pa, watermark, log} <- [
          {%{"made_here" => true}, @unmarked, @nothing},
          {@unsigned, @marked, @nothing},
          {@unsigned, @unmarked, %{@nothing | "exact" => true}}
        ] do
      assert verdict(c2pa, watermark, log)["verdict"] == "made_here"
    end
  end

  test "a statement that does not fit is told even where the mark is there, and so is the mark" do
    told = verdict(%{"tampered" => true, "made_here" => false}, @marked)
    assert told["verdict"] == "tampered"
    assert told["meaning"] =~ "invisible mark of this server"
    refute verdict(%{"tampered" => true}, @unmarked)["meaning"] =~ "invisible mark"
  end

  test "a stranger's statement is believed to declare, not to prove" do
    told = verdict(%{"generated" => true, "made_here" => false}, @unmarked)
    assert told["verdict"] == "declares_ai"
    assert told["meaning"] =~ "not known here"
  end

  test "unknown says that it is no proof of the contrary" do
    told = verdict(@unsigned, @unmarked)
    assert told["verdict"] == "unknown"
    assert told["meaning"] =~ "does not mean that no model made it"
  end
end
