defmodule Koma.Access.KeyFileTest do
  use ExUnit.Case, async: true

  alias Koma.Access.{Key, KeyFile, Limits}

  @digest String.duplicate("0a", 32)
  @other String.duplicate("0b", 32)

  test "a line holds an id, secrets and settings; comments and empty lines say nothing" do
    text = """
    # keys of the studio

    studio sha256:#{@digest} weight=3 roles=operator,metrics # made in May
      render\tsha256:#{@digest |> String.reverse()} sha256:#{@other} rate=5 burst=7 jobs=none stored_bytes=20GiB\r
    """

    assert {:ok, [studio, render]} = KeyFile.parse(text)
    assert %Key{id: "studio", weight: 3, roles: [:operator, :metrics]} = studio
    assert studio.digests == [Base.decode16!(@digest, case: :lower)]
    assert studio.limits == %Limits{}
    assert %Key{id: "render", weight: 1, roles: [], digests: [_, _]} = render
    assert %Limits{rate: 5, burst: 7, jobs: nil, sockets: 100} = render.limits
    assert render.limits.stored_bytes == 20 * 1024 ** 3
  end

  test "in a variable keys are separated by semicolons" do
    assert {:ok, [%{id: "a"}, %{id: "b"}]} =
             KeyFile.parse("a sha256:#{@digest};b sha256:#{@other};")
  end

  test "a text without keys has none" do
    assert KeyFile.parse("") == {:ok, []}
    assert KeyFile.parse("\n# nothing\n;;") == {:ok, []}
  end

  for {line, words} <- [
        {"studio", "studio has no sha256:"},
        {"-studio sha256:D", "the id of a key"},
        {"stu/dio sha256:D", "the id of a key"},
        {String.duplicate("x", 65) <> " sha256:D", "1 to 64"},
        {"studio sha256:D rates=5", "unknown setting \"rates\"; did you mean rate?"},
        {"studio sha256:D rate=0", "rate must be none or a whole number from 1"},
        {"studio sha256:D rate=-1", "rate must be"},
        {"studio sha256:D rate=5MiB", "rate must be"},
        {"studio sha256:D rate=", "rate must be"},
        {"studio sha256:D stored_bytes=5MB", "stored_bytes must be none or bytes"},
        {"studio sha256:D burst=none", "burst=none"},
        {"studio sha256:D weight=none", "weight must be"},
        {"studio sha256:D weight=1001", "1..1000"},
        {"studio sha256:D rate=99999999999999999999", "rate must be"},
        {"studio sha256:D roles=admin", "roles are metrics, operator"},
        {"studio sha256:D roles=", "roles are"}
      ] do
    test "#{inspect(line)} is refused, naming the line and #{words}" do
      line = String.replace(unquote(line), "sha256:D", "sha256:#{@digest}")
      assert {:error, message} = KeyFile.parse("# first\n" <> line)
      assert message =~ "line 2: "
      assert message =~ unquote(words)
    end
  end

  test "a secret that was written in the place of its digest is not repeated" do
    for line <- ["studio koma_ThisIsTheSecret", "studio sha256:koma_ThisIsTheSecret rate=1"] do
      assert {:error, message} = KeyFile.parse(line)
      assert message =~ "koma keys new"
      refute message =~ "Secret"
    end
  end

  test "an id or a secret that stands there twice is refused" do
    same_id = keys("a sha256:#{@digest}\na sha256:#{@other}")
    assert {:error, message} = KeyFile.distinct(same_id)
    assert message =~ "the key a has two lines"
    same_secret = keys("a sha256:#{@digest}\nb sha256:#{@other} sha256:#{@digest}")
    assert {:error, message} = KeyFile.distinct(same_secret)
    assert message =~ "twice"
  end

  defp keys(text) do
    {:ok, keys} = KeyFile.parse(text)
    keys
  end
end
