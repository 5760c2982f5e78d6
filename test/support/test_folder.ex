defmodule Koma.TestFolder do
  @moduledoc "Folders of tests, also of suites that run at the same time."

  @doc "Makes a folder that no other test has; it is deleted with what is in it when the test is over."
  @spec new(String.t()) :: Path.t()
  def new(name) do
    unique = "#{System.pid()}-#{System.unique_integer([:positive])}"
    dir = Path.join(System.tmp_dir!(), "koma-#{name}-#{unique}")
    File.mkdir_p!(dir)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end
end
