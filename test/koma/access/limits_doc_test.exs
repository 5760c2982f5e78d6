defmodule Koma.Access.LimitsDocTest do
  use ExUnit.Case, async: true

  alias Koma.Access.Limits

  @page Path.expand("../../../docs/security.md", __DIR__)

  test "docs/security.md tells every limit with its default and meaning" do
    page = File.read!(@page)

    for {name, default, _unit, meaning} <- Limits.documented() do
      assert page =~ "| `#{name}` | #{default || "none"} | #{meaning} |"
    end
  end
end
