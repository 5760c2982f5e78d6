defmodule Koma.Live.TokenTest do
  use ExUnit.Case, async: false

  alias Koma.Live.Token
  alias Koma.{Options, Secret}

  setup do
    dir = Koma.TestFolder.new("token")
    Secret.load(Options.new!(data_dir: dir))
    {:ok, dir: dir}
  end

  test "what was signed comes back, for the same purpose only" do
    token = Token.sign(:page, %{"page" => "phx-1"})
    assert token =~ ~r/\A[\w.-]+\z/
    assert Token.verify(:page, token, 60) == {:ok, %{"page" => "phx-1"}}
    assert Token.verify(:cookie, token, 60) == :error
  end

  test "a token is worth nothing after its time, or with another byte in it" do
    token = Token.sign(:page, "x")
    assert Token.verify(:page, token, -1) == :error
    [text, mac] = String.split(token, ".")
    {:ok, said} = Base.url_decode64(text, padding: false)

    for n <- 0..(byte_size(said) - 1) do
      <<head::binary-size(n), byte, tail::binary>> = said

      forged =
        Base.url_encode64(<<head::binary, Bitwise.bxor(byte, 1), tail::binary>>, padding: false)

      assert Token.verify(:page, forged <> "." <> mac, 60) == :error
    end
  end

  test "what is no token is none" do
    for token <- [nil, "", ".", "a.b", "é.é", 7, %{}, String.duplicate("a", 10_000)] do
      assert Token.verify(:page, token, 60) == :error
    end
  end

  test "a restart of the server ends no session; another secret ends all", %{dir: dir} do
    token = Token.sign(:page, "x")
    proof = Token.proof(:csrf, "id")
    Secret.load(Options.new!(data_dir: dir))
    assert Token.verify(:page, token, 60) == {:ok, "x"}
    assert Token.proven?(:csrf, "id", proof)
    Secret.load(Options.new!(data_dir: dir, secret: "of an operator"))
    assert Token.verify(:page, token, 60) == :error
    refute Token.proven?(:csrf, "id", proof)
  end

  test "the secret is kept where its owner alone can read it; a torn one is made anew", %{
    dir: dir
  } do
    path = Path.join(dir, "secret")
    assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o600
    File.write!(path, "torn")
    Secret.load(Options.new!(data_dir: dir))
    assert byte_size(File.read!(path)) == 32
  end
end
